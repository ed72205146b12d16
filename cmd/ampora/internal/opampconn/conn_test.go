package opampconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// server runs a handler behind TLS and answers how to reach it.
func server(t *testing.T, scheme string, h http.HandlerFunc) Options {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return Options{
		Endpoint: scheme + strings.TrimPrefix(s.URL, "https") + "/v1/opamp", TLS: &tls.Config{RootCAs: roots}, Token: "the-token",
	}
}

// talk connects, sends one message and waits for the answer.
func talk(t *testing.T, o Options) (*protobufs.ServerToAgent, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := Dial(ctx, o)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.Send(ctx, &protobufs.AgentToServer{InstanceUid: make([]byte, 16)}); err != nil {
		return nil, err
	}
	return conn.Receive(ctx)
}

func TestARefusalKeepsItsCodeAndItsPatience(t *testing.T) {
	for _, scheme := range []string{"wss", "https"} {
		for _, c := range []struct {
			name, contentType, body, retry string
			status                         int
			code                           apitype.Code
			passing, identity              bool
		}{
			{"a URN", "application/problem+json", `{"type":"urn:ampora:error:token_redeemed","detail":"x"}`, "", 401, apitype.TokenRedeemed, false, false},
			{"a URL", "application/problem+json", `{"type":"https://e.example/errors/certificate_revoked"}`, "", 403, apitype.CertificateRevoked, false, true},
			{"a passing one", "application/problem+json", `{"type":"urn:ampora:error:vault_unavailable"}`, "7", 503, apitype.VaultUnavailable, true, false},
			{"an unknown code", "application/problem+json", `{"type":"urn:ampora:error:brand_new","detail":"d"}`, "", 400, "", false, false},
			{"a proxy's page", "text/html", "<html>403</html>", "", 403, "", false, false},
			{"a proxy's overload", "text/html", "busy", "", 503, "", true, false},
			{"nothing", "", "", "", 500, "", false, false},
		} {
			t.Run(scheme+" "+c.name, func(t *testing.T) {
				o := server(t, scheme, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", c.contentType)
					if c.retry != "" {
						w.Header().Set("Retry-After", c.retry)
					}
					w.WriteHeader(c.status)
					_, _ = w.Write([]byte(c.body))
				})
				_, err := talk(t, o)
				var r *Refusal
				if !errors.As(err, &r) {
					t.Fatalf("got %v", err)
				}
				if r.Status != c.status || apitype.CodeOf(err) != c.code || r.Passing() != c.passing || r.Identity() != c.identity {
					t.Errorf("got %+v", r)
				}
				if c.retry != "" && r.RetryAfter != 7*time.Second {
					t.Errorf("retry after %v", r.RetryAfter)
				}
				if strings.Contains(err.Error(), "<html>") {
					t.Errorf("a page is shown: %v", err)
				}
			})
		}
	}
}

// answering is a handler that answers one message over either transport.
func answering(scheme string, frame []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if scheme == "https" {
			_, _ = w.Write(bytes.TrimPrefix(frame, []byte{0}))
			return
		}
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		if _, _, err := ws.ReadMessage(); err == nil {
			_ = ws.WriteMessage(websocket.BinaryMessage, frame)
			_, _, _ = ws.ReadMessage()
		}
	}
}

func frame(t *testing.T, msg *protobufs.ServerToAgent) []byte {
	t.Helper()
	data, err := proto.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0}, data...)
}

func TestAnAnswerComesThroughAndAnErrorInsideIsARefusal(t *testing.T) {
	for _, scheme := range []string{"wss", "https"} {
		got, err := talk(t, server(t, scheme, answering(scheme, frame(t, &protobufs.ServerToAgent{Capabilities: 5}))))
		if err != nil || got.GetCapabilities() != 5 {
			t.Errorf("%s: %v %v", scheme, got, err)
		}
		text := apitype.Errorf(apitype.CSRInvalid, "no PEM").Error()
		_, err = talk(t, server(t, scheme, answering(scheme, frame(t, &protobufs.ServerToAgent{ErrorResponse: &protobufs.ServerErrorResponse{ErrorMessage: text}}))))
		if apitype.CodeOf(err) != apitype.CSRInvalid {
			t.Errorf("%s: %v", scheme, err)
		}
		_, err = talk(t, server(t, scheme, answering(scheme, frame(t, &protobufs.ServerToAgent{ErrorResponse: &protobufs.ServerErrorResponse{
			Type: protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable, ErrorMessage: "\x1b[31mhostile\n" + strings.Repeat("x", 500),
			Details: &protobufs.ServerErrorResponse_RetryInfo{RetryInfo: &protobufs.RetryInfo{RetryAfterNanoseconds: 1 << 63}},
		}}))))
		var r *Refusal
		if !errors.As(err, &r) || !r.Passing() || r.RetryAfter <= 0 || r.RetryAfter > time.Hour || len(r.Text) > 2*maxText || strings.ContainsAny(r.Text, "\x1b\n") {
			t.Errorf("%s: %+v", scheme, r)
		}
	}
}

func TestWhatIsNoOpAMPIsSaidToBeNone(t *testing.T) {
	for name, data := range map[string][]byte{"no header": {9, 9, 9}, "no protobuf": {0, 0xff, 0xff}, "empty": {}, "too large": make([]byte, MaxMessage+100)} {
		if _, err := talk(t, server(t, "wss", answering("wss", data))); err == nil {
			t.Errorf("%s was taken on WebSocket", name)
		}
		if name == "no protobuf" || name == "too large" {
			if _, err := talk(t, server(t, "https", answering("https", data))); err == nil {
				t.Errorf("%s was taken on HTTP", name)
			}
		}
	}
}

func TestATokenIsNotCarriedToWhereARedirectPoints(t *testing.T) {
	for _, scheme := range []string{"wss", "https"} {
		reached := false
		other := server(t, "https", func(http.ResponseWriter, *http.Request) { reached = true })
		o := server(t, scheme, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.Endpoint, http.StatusTemporaryRedirect)
		})
		o.TLS = &tls.Config{RootCAs: nil, InsecureSkipVerify: true} // so that only the rule for redirects can stop it
		if _, err := talk(t, o); err == nil || reached {
			t.Errorf("%s: redirected: %v %v", scheme, reached, err)
		}
	}
}

func TestACloseFrameThatNamesACodeIsARefusal(t *testing.T) {
	o := server(t, "wss", func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_, _, _ = ws.ReadMessage()
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1008, "certificate_revoked"), time.Now().Add(time.Second))
	})
	_, err := talk(t, o)
	var r *Refusal
	if !errors.As(err, &r) || !r.Identity() {
		t.Errorf("got %v", err)
	}
}

func TestASilentServerIsNotWaitedForForEver(t *testing.T) {
	o := server(t, "wss", func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		_, _, _ = ws.ReadMessage()
		_, _, _ = ws.ReadMessage()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	conn, err := Dial(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Send(ctx, &protobufs.AgentToServer{}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, err := conn.Receive(ctx); err == nil || time.Since(begin) > 3*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

func TestOnlyEndpointsWithTLSAreTaken(t *testing.T) {
	for _, bad := range []string{"", "edge:4320", "ws://edge/v1/opamp", "http://edge/v1/opamp", "wss://user:pass@edge/", "ftp://edge", "wss://", "wss:///v1/opamp", "::"} {
		if _, err := ParseEndpoint(bad); !errors.Is(err, ErrEndpoint) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
