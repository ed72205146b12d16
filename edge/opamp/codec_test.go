package opamp

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

func attribute(key, value string) *protobufs.KeyValue {
	return &protobufs.KeyValue{Key: key, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: value}}}
}

func TestADescriptionHasOneSpelling(t *testing.T) {
	one, name := describe(&protobufs.AgentDescription{
		IdentifyingAttributes:    []*protobufs.KeyValue{attribute("service.name", "collector"), attribute("a", "b")},
		NonIdentifyingAttributes: []*protobufs.KeyValue{attribute("os.type", "linux"), attribute("host.name", "web-1")},
	})
	two, _ := describe(&protobufs.AgentDescription{
		IdentifyingAttributes:    []*protobufs.KeyValue{attribute("a", "b"), attribute("service.name", "collector")},
		NonIdentifyingAttributes: []*protobufs.KeyValue{attribute("host.name", "web-1"), attribute("os.type", "linux")},
	})
	if one != two || strings.Contains(one, " ") {
		t.Errorf("one is %s, the other %s", one, two)
	}
	if name != "web-1" {
		t.Errorf("the name is %q", name)
	}
}

func TestNamesForPeople(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"web-1", "web-1"},
		{"  Büro 3  ", "Büro 3"},
		{"a\u202eb\x1b[31mc\nd", "ab[31mcd"},
		{strings.Repeat("é", 200), strings.Repeat("é", 128)},
		{"\x00\x01", ""},
	} {
		if got := printable(c.in); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.in, got, c.want)
		}
	}
}

func TestAHugeDescriptionCountsAsEmpty(t *testing.T) {
	got, name := describe(&protobufs.AgentDescription{NonIdentifyingAttributes: []*protobufs.KeyValue{
		attribute("host.name", "web-1"), attribute("x", strings.Repeat("x", maxDescription)),
	}})
	if got != "{}" || name != "web-1" {
		t.Errorf("%d bytes, name %q", len(got), name)
	}
}

func TestTheHashOfAnOfferIsThatOfItsContent(t *testing.T) {
	offer := session.Offer{Endpoint: "wss://edge", Certificate: "C", ServerRoots: "R", Heartbeat: 30 * time.Second}
	offer.Leaf[0] = 7
	one, two := encodeOffer(&offer), encodeOffer(&offer)
	if !proto.Equal(one, two) {
		t.Error("the same offer has two hashes")
	}
	status := settingsStatus(&protobufs.ConnectionSettingsStatus{
		LastConnectionSettingsHash: one.Hash, Status: protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED,
	})
	if status.State != session.SettingsApplied || status.Leaf != offer.Leaf {
		t.Errorf("the hash is read as %+v", status)
	}
	offer.PrivateKey = "K"
	if !bytes.Equal(one.Hash, encodeOffer(&offer).Hash) || string(encodeOffer(&offer).Opamp.Certificate.PrivateKey) != "K" {
		t.Error("the hash tells of the private key")
	}
	offer.Certificate = "D"
	if bytes.Equal(one.Hash, encodeOffer(&offer).Hash) {
		t.Error("another offer has the same hash")
	}
	offer.Heartbeat, offer.ServerRoots = 0, ""
	if got := encodeOffer(&offer).Opamp; got.HeartbeatIntervalSeconds == 0 || got.Tls != nil || len(got.Certificate.CaCert) != 0 {
		t.Errorf("the offer is %v", got)
	}
}

func TestNothingStandsBesideAnError(t *testing.T) {
	out := encode(session.Reply{
		Kind: session.KindBootstrap, ReportFullState: true, Refusal: &session.Refusal{Err: apitype.Errorf(apitype.CSRInvalid, "x"), RetryAfter: time.Second},
	}, make([]byte, 16))
	if out.Capabilities != 0 || out.Flags != 0 || out.ErrorResponse.GetRetryInfo().GetRetryAfterNanoseconds() != 1e9 {
		t.Errorf("%v", out)
	}
}

func TestCloseFramesFitAControlFrame(t *testing.T) {
	frame := closeFrame(websocket.ClosePolicyViolation, strings.Repeat("x", 500))
	if len(frame) != 127 || frame[1] != 125 || frame[1]&0x80 != 0 {
		t.Errorf("% x", frame[:4])
	}
}

func TestOnlyOurHashesSaySomething(t *testing.T) {
	for _, hash := range [][]byte{nil, make([]byte, 32), make([]byte, offerHashSize-1), make([]byte, offerHashSize+1)} {
		got := settingsStatus(&protobufs.ConnectionSettingsStatus{
			LastConnectionSettingsHash: hash, Status: protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED,
		})
		if got != (session.SettingsStatus{}) {
			t.Errorf("%d bytes are read as %+v", len(hash), got)
		}
	}
	hash := make([]byte, offerHashSize)
	for status, want := range map[protobufs.ConnectionSettingsStatuses]session.SettingsState{
		protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_UNSET:    0,
		protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLYING: 0,
		protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED:  session.SettingsApplied,
		protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_FAILED:   session.SettingsFailed,
		77: 0,
	} {
		got := settingsStatus(&protobufs.ConnectionSettingsStatus{LastConnectionSettingsHash: hash, Status: status, ErrorMessage: "a\nb"})
		if got.State != want || want == session.SettingsFailed && got.Error != "ab" {
			t.Errorf("%s is read as %+v", status, got)
		}
	}
}

const aProof = "-----BEGIN AMPORA RENEWAL PROOF-----\ncHJvb2Y=\n-----END AMPORA RENEWAL PROOF-----\n"

func TestTheProofStandsBehindTheCSR(t *testing.T) {
	const csr = "-----BEGIN CERTIFICATE REQUEST-----\nY3Ny\n-----END CERTIFICATE REQUEST-----\n"
	for name, c := range map[string]struct{ field, csr, proof string }{
		"nothing":                {"", "", ""},
		"a CSR alone":            {csr, csr, ""},
		"a CSR and a proof":      {csr + aProof, csr, "cHJvb2Y="},
		"with white space":       {csr + "\n \n" + aProof + "\n\n", csr + "\n \n", "cHJvb2Y="},
		"with Windows' lines":    {strings.ReplaceAll(csr+aProof, "\n", "\r\n"), strings.ReplaceAll(csr, "\n", "\r\n"), "cHJvb2Y="},
		"a proof alone":          {aProof, aProof, ""},
		"two proofs":             {csr + aProof + aProof, csr + aProof + aProof, ""},
		"something behind it":    {csr + aProof + "x", csr + aProof + "x", ""},
		"the proof first":        {aProof + csr, aProof + csr, ""},
		"a proof that is cut":    {csr + aProof[:50], csr + aProof[:50], ""},
		"a proof that is broken": {csr + strings.Replace(aProof, "cHJvb2Y=", "!", 1), csr + strings.Replace(aProof, "cHJvb2Y=", "!", 1), ""},
	} {
		if gotCSR, gotProof := splitProof([]byte(c.field)); gotCSR != c.csr || gotProof != c.proof {
			t.Errorf("%s: %q, %q", name, gotCSR, gotProof)
		}
	}
}

// FuzzSplitProof: what comes out as CSR and proof is what went in, and neither smuggles a second block past the other.
func FuzzSplitProof(f *testing.F) {
	for _, seed := range []string{"", "csr", aProof, "csr\n" + aProof, aProof + aProof, aProof + "x", "csr\n" + strings.Replace(aProof, "\n", "\nA: b\n\n", 1)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, field []byte) {
		csr, proof := splitProof(field)
		if proof == "" {
			if csr != string(field) {
				t.Fatalf("%q became the CSR %q", field, csr)
			}
			return
		}
		raw, err := base64.StdEncoding.DecodeString(proof)
		if err != nil || !strings.HasPrefix(string(field), csr) || strings.Contains(csr, string(proofBegin)) {
			t.Fatalf("%q became %q and %q", field, csr, proof)
		}
		again, same := splitProof(append([]byte(csr), pem.EncodeToMemory(&pem.Block{Type: identity.ProofBlock, Bytes: raw})...))
		if again != csr || same != proof {
			t.Fatalf("%q and %q, put together, become %q and %q", csr, proof, again, same)
		}
	})
}
