package opamp

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge/session"
	"github.com/ampora/ampora/plugin/apitype"
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
	one, two := encodeOffer(&offer), encodeOffer(&offer)
	if !proto.Equal(one, two) {
		t.Error("the same offer has two hashes")
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
