package federation

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
)

// Bounds of what is taken from a peer.
const (
	dialTime       = 5 * time.Second
	maxHeaderBytes = 16 << 10
	maxProblem     = 16 << 10
	maxCard        = 1 << 20
	maxLists       = 64 << 20 // 100,000 certificates have 6 MB
	maxWait        = 5 * time.Minute
	maxWhy         = 200
)

// line is the way to one peer's edges. It is made anew when the peer's row changes.
type line struct {
	base      string
	transport *http.Transport
	client    *http.Client
}

// newLine takes the peer's row at its word. Redirects are not followed, for an address counts only when an operator has
// written it. Proxies are those of the standard variables, as for the calls to Vault; through them, too, TLS reaches the peer.
func newLine(p Peer) (*line, error) {
	u, err := url.Parse(p.URL)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, errors.New("federation_url is no https URL without user and parameters")
	}
	var roots *x509.CertPool // nil: the system's
	if p.Roots != "" {
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(p.Roots)) {
			return nil, errors.New("endpoint_ca_bundle holds no certificate")
		}
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTime}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    dialTime,
		DisableCompression:     true, // what is small may unfold to anything
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConnsPerHost:    deliveriesAtOnce,
		IdleConnTimeout:        90 * time.Second,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
	return &line{base: strings.TrimSuffix(u.String(), "/"), transport: t, client: &http.Client{
		Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (l *line) close() { l.transport.CloseIdleConnections() }

// request is one call. A body makes it a POST.
type request struct {
	path    string
	body    string
	etag    string // of what is here already
	most    int64  // bytes of the answer
	timeout time.Duration
}

// reply is an answer that counts: 200, 204 and 304.
type reply struct {
	status int
	body   []byte
	etag   string
	media  string
}

// fault is why a call did not bring what it should.
type fault struct {
	text string
	// code is what the peer says, of our catalogue only.
	code apitype.Code
	// answered: it is an edge that has understood the call and refuses it. Otherwise nothing works with this peer.
	answered bool
	wait     time.Duration // that it asks for
	cause    error
}

func (f *fault) Error() string { return f.text }
func (f *fault) Unwrap() error { return f.cause }

// do makes one call. The error is a *fault.
func (l *line) do(ctx context.Context, in request) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, in.timeout)
	defer cancel()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if in.body != "" {
		method, body = http.MethodPost, strings.NewReader(in.body)
	}
	req, err := http.NewRequestWithContext(ctx, method, l.base+"/"+in.path, body)
	if err != nil {
		return nil, &fault{text: "federation_url makes no address", cause: err}
	}
	if in.body != "" {
		req.Header.Set("Content-Type", jose)
	}
	if in.etag != "" {
		req.Header.Set("If-None-Match", in.etag)
	}
	req.Header.Set("User-Agent", "ampora-edge/"+apitype.Version)
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	defer resp.Body.Close()
	return read(resp, in)
}

// read takes the answer.
func read(resp *http.Response, in request) (*reply, error) {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent, http.StatusNotModified:
	default:
		return nil, refusal(resp)
	}
	out := &reply{status: resp.StatusCode, etag: resp.Header.Get("ETag")}
	out.media, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusOK {
		return out, nil
	}
	var err error
	if out.body, err = io.ReadAll(io.LimitReader(resp.Body, in.most+1)); err != nil {
		return nil, unreachable(err)
	}
	if int64(len(out.body)) > in.most {
		return nil, &fault{text: fmt.Sprintf("it answers with more than %d bytes", in.most)}
	}
	return out, nil
}

// refusal is what another status means. Of the body nothing is believed but a code of ours.
func refusal(resp *http.Response) *fault {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem)) // what is cut short is no JSON, and counts as none
	var doc problem.Document
	f := &fault{text: fmt.Sprintf("it answers %d", resp.StatusCode)}
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media == problem.ContentType && json.Unmarshal(text, &doc) == nil {
		if code, ours := strings.CutPrefix(doc.Type, problem.TypePrefix); ours && apitype.Code(code).Known() {
			f.code = apitype.Code(code)
			f.text += " " + code
		}
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		f.wait = min(time.Duration(seconds)*time.Second, maxWait)
	}
	busy := resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= http.StatusInternalServerError
	f.answered = f.code != "" && !busy
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		f.text += ", a redirect, which is not followed: write the address that works to federation_url"
	case f.code == "" && !busy:
		f.text += ", and not as an edge does: is federation_url right?"
	}
	return f
}

// unreachable is why there was no answer, without the address, which the log has beside it.
func unreachable(err error) *fault {
	f := &fault{text: err.Error(), cause: err}
	if outer, ok := errors.AsType[*url.Error](err); ok {
		f.text = outer.Err.Error()
		if outer.Timeout() {
			f.text = "it does not answer in time"
		}
	} else if errors.Is(err, context.DeadlineExceeded) {
		f.text = "it does not answer in time"
	}
	return f
}

// why is an error as one short printable line, for the log and for peers/<name>. Certificates bring foreign names into it.
func why(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, vaultgate.Cause(err))
	if len(text) > maxWhy {
		text = text[:maxWhy] + "..."
	}
	return text
}
