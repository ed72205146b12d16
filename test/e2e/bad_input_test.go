package e2e

import (
	"bytes"
	"compress/gzip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// TestBadInputIsRefusedByNameAndCostsNothing sends what goes wrong in practice to a real edge. The edge's own tests go
// through many more.
func TestBadInputIsRefusedByNameAndCostsNothing(t *testing.T) {
	t.Parallel()
	in := install(t)
	e := in.edge("one")
	good := in.token()
	encoded := func(m *protobufs.AgentToServer) []byte {
		raw, err := proto.Marshal(m)
		must(t, err)
		return raw
	}
	incapable := message(newCSR())
	incapable.Capabilities = uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus)
	large := message(newCSR())
	large.AgentDescription.IdentifyingAttributes = []*protobufs.KeyValue{{Key: strings.Repeat("x", 5<<20)}}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err := z.Write(make([]byte, 16<<20))
	must(t, err)
	must(t, z.Close())

	for _, c := range []struct {
		name          string
		authorization string
		body          []byte
		header        []string
		status        int
		code          apitype.Code
	}{
		{"no credential", "", encoded(message(newCSR())), nil, 401, apitype.TokenMissing},
		{"no Bearer", good.Token, encoded(message(newCSR())), nil, 401, apitype.TokenMissing},
		{"a token in capitals", "Bearer " + strings.ToUpper(good.Token), encoded(message(newCSR())), nil, 401, apitype.TokenMalformed},
		{"a token with a slip", "Bearer " + slip(good.Token), encoded(message(newCSR())), nil, 401, apitype.TokenChecksum},
		{"a token of nobody", "Bearer " + token.New(token.Bootstrap).Reveal(), encoded(message(newCSR())), nil, 401, apitype.TokenUnknown},
		{"no CSR where one should be", "Bearer " + good.Token, encoded(message([]byte("hello"))), nil, 200, apitype.CSRInvalid},
		{"no capability", "Bearer " + good.Token, encoded(incapable), nil, 200, apitype.CapabilityMissing},
		{"no OpAMP", "Bearer " + good.Token, []byte("hello"), nil, 400, apitype.MessageInvalid},
		{"a large message", "Bearer " + good.Token, encoded(large), nil, 413, apitype.BodyTooLarge},
		{"a compressed bomb", "Bearer " + good.Token, bomb.Bytes(), []string{"Content-Encoding", "gzip"}, 413, apitype.BodyTooLarge},
	} {
		a, err := e.post(c.authorization, nil, c.body, c.header...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if a.status != c.status || a.code != c.code || a.text == "" {
			t.Errorf("%s: answered %d %s %q, want %d %s", c.name, a.status, a.code, a.text, c.status, c.code)
		}
		if a.status == 401 && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
			t.Errorf("%s: no challenge", c.name)
		}
	}

	// An agent that cannot take a certificate is told which switch to turn, on a WebSocket too.
	incapableAgent := in.agent(e.endpoint("wss"), in.token().Token, filepath.Join(in.dir, "incapable"), "--no-settings")
	refused := incapableAgent.Await("a refusal", 20e9, 0, func(e agentEvent) bool { return e.Event == "server_error" })
	if !strings.Contains(refused.Error, "accepts_opamp_connection_settings") {
		t.Errorf("it was told %q", refused.Error)
	}
	incapableAgent.Stop()

	if n := len(in.agents()); n != 0 {
		t.Errorf("bad input has made %d agents", n)
	}
	a := e.mustPost(t, "Bearer "+good.Token, nil, message(newCSR()))
	if a.status != 200 || a.code != "" {
		t.Errorf("the token does not work any more: %d %s %s", a.status, a.code, a.text)
	}
	in.wantEnrolled(good)
}

// slip changes one character of a token's payload.
func slip(text string) string {
	b := []byte(text)
	if b[20] == 'a' {
		b[20] = 'b'
	} else {
		b[20] = 'a'
	}
	return string(b)
}
