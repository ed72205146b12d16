package opampconn

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// Refusal is a server's clear no. When it named a code of our catalogue the *apitype.Error is in its chain.
type Refusal struct {
	Status     int           // of HTTP; 0 when it came inside an OpAMP message
	RetryAfter time.Duration // 0 when the server named none
	Err        *apitype.Error
	Text       string // what a server that is no edge of ours said, cut short
}

func (r *Refusal) Error() string {
	switch {
	case r.Err != nil:
		return "the edge refused: " + r.Err.Error()
	case r.Status != 0:
		text := fmt.Sprintf("the server refused with HTTP %d %s", r.Status, http.StatusText(r.Status))
		if r.Text != "" {
			text += ": " + r.Text
		}
		return text
	}
	return "the server refused: " + r.Text
}

// Unwrap is the refusal's code, if it has one of ours.
func (r *Refusal) Unwrap() error {
	if r.Err == nil {
		return nil
	}
	return r.Err
}

// Passing reports whether the same request may be taken later.
func (r *Refusal) Passing() bool {
	return r.Status == http.StatusServiceUnavailable || r.Status == http.StatusTooManyRequests || r.RetryAfter > 0
}

// Identity reports whether an edge of ours refuses who connected, once and for all. A bare 401 or 403 is not enough: a proxy
// in between may have sent it, or taken the certificate away.
func (r *Refusal) Identity() bool {
	if r.Err == nil {
		return false
	}
	switch r.Err.Code {
	case apitype.AgentUnknown, apitype.AgentRevoked, apitype.CertificateRevoked, apitype.CertificateExpired, apitype.CertificateUntrusted:
		return true
	}
	return false
}

// maxText bounds what is shown of a stranger's answer, in bytes.
const maxText = 200

// problem is an RFC 9457 document.
type problem struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
}

// fromResponse reads a refusal from an HTTP answer.
func fromResponse(resp *http.Response) *Refusal {
	r := &Refusal{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"))}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what could be read is what can be told
	var p problem
	if json.Unmarshal(body, &p) == nil && p.Type != "" {
		if r.Err = apitype.ParseError(p.Detail); r.Err != nil {
			return r
		}
		// The code is the last part of a URN or a URL.
		if code := apitype.Code(p.Type[strings.LastIndexAny(p.Type, ":/")+1:]); code.Known() {
			detail := strings.TrimSuffix(strings.TrimSuffix(p.Detail, code.Next()), ": ")
			r.Err = &apitype.Error{Code: code, Detail: detail}
			return r
		}
		body = []byte(p.Detail)
	}
	r.Text = plain(string(body))
	return r
}

// fromServerError reads a refusal from inside an OpAMP message.
func fromServerError(e *protobufs.ServerErrorResponse) *Refusal {
	r := &Refusal{Err: apitype.ParseError(e.GetErrorMessage())}
	if r.Err == nil {
		r.Text = plain(e.GetErrorMessage())
	}
	if e.GetType() == protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable {
		r.RetryAfter = max(time.Duration(e.GetRetryInfo().GetRetryAfterNanoseconds()), time.Second) // an overflow is cut below
		r.RetryAfter = min(r.RetryAfter, time.Hour)
	}
	return r
}

// plain keeps control characters and length of a foreign text off the terminal.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if text = strings.TrimSpace(text); len(text) > maxText {
		text = text[:maxText] + "..."
	}
	if strings.HasPrefix(text, "<") { // a web page: no help
		return ""
	}
	return text
}

func retryAfter(header string) time.Duration {
	if n, err := strconv.Atoi(header); err == nil && n > 0 {
		return min(time.Duration(n)*time.Second, time.Hour)
	}
	return 0
}
