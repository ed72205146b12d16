package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// message is what an agent says first, over plain HTTP; csr may be nil.
func message(csr []byte) *protobufs.AgentToServer {
	uid := uuid.Must(uuid.NewV7())
	m := &protobufs.AgentToServer{
		InstanceUid: uid[:],
		Capabilities: uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
			protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings),
		AgentDescription: &protobufs.AgentDescription{},
	}
	if csr != nil {
		m.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
			CertificateRequest: &protobufs.CertificateRequest{Csr: csr},
		}}
	}
	return m
}

// newCSR makes a key, forgets it, and returns a CSR for it.
func newCSR() []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// answer is what came back for a POST.
type answer struct {
	status int
	header http.Header
	// code is that of the problem document, or of the error inside the OpAMP answer.
	code  apitype.Code
	text  string
	reply *protobufs.ServerToAgent
}

// post sends bytes to an edge as one OpAMP request over plain HTTP. authorization is the whole header; cert may be nil. It
// may be called from any goroutine.
func (e *edge) post(authorization string, cert *tls.Certificate, body []byte, header ...string) (*answer, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(e.in.read(e.in.ca)))
	config := &tls.Config{RootCAs: roots}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodPost, e.endpoint("https"), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{status: resp.StatusCode, header: resp.Header}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		var document struct{ Type, Title, Detail string }
		if err := json.Unmarshal(raw, &document); err != nil {
			return nil, err
		}
		a.code, a.text = apitype.Code(document.Type[strings.LastIndex(document.Type, ":")+1:]), document.Detail
		return a, nil
	}
	a.reply = &protobufs.ServerToAgent{}
	if err := proto.Unmarshal(raw, a.reply); err != nil {
		return nil, err
	}
	if refusal := a.reply.GetErrorResponse(); refusal != nil {
		a.text = refusal.GetErrorMessage()
		if parsed := apitype.ParseError(a.text); parsed != nil {
			a.code = parsed.Code
		}
	}
	return a, nil
}

// mustPost is post for a test's own goroutine.
func (e *edge) mustPost(t *testing.T, authorization string, cert *tls.Certificate, m *protobufs.AgentToServer, header ...string) *answer {
	t.Helper()
	body, err := proto.Marshal(m)
	must(t, err)
	a, err := e.post(authorization, cert, body, header...)
	must(t, err)
	return a
}
