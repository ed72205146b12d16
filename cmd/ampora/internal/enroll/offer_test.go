package enroll

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// TestAnOfferIsHeldAgainstWhatWasAskedFor is what a lying edge may try.
func TestAnOfferIsHeldAgainstWhatWasAskedFor(t *testing.T) {
	keyPEM, err := newKey("ec")
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	ours := key.(*ecdsa.PrivateKey) // made above
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	agent := uuid.NewString()
	const asked = "wss://edge.example:4320/v1/opamp"
	later := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name  string
		offer *protobufs.OpAMPConnectionSettings
		says  string // the error; empty for a good one
	}{
		{"a good one", &protobufs.OpAMPConnectionSettings{Certificate: &protobufs.TLSCertificate{Cert: leafFor(t, agent, ours, later)}}, ""},
		{"for another key", &protobufs.OpAMPConnectionSettings{Certificate: &protobufs.TLSCertificate{Cert: leafFor(t, agent, foreign, later)}}, "another key"},
		{"for another agent", &protobufs.OpAMPConnectionSettings{Certificate: &protobufs.TLSCertificate{Cert: leafFor(t, uuid.NewString(), ours, later)}}, "but agent " + agent + " has asked"},
		{"no PEM", &protobufs.OpAMPConnectionSettings{Certificate: &protobufs.TLSCertificate{Cert: []byte("x")}}, "no certificate"},
		{"a key instead", &protobufs.OpAMPConnectionSettings{Certificate: &protobufs.TLSCertificate{Cert: keyPEM}}, "no certificate"},
		{"without TLS from now on", &protobufs.OpAMPConnectionSettings{
			DestinationEndpoint: "ws://edge.example/v1/opamp", Certificate: &protobufs.TLSCertificate{Cert: leafFor(t, agent, ours, later)},
		}, "cannot be used"},
		{"without verification from now on", &protobufs.OpAMPConnectionSettings{
			Certificate: &protobufs.TLSCertificate{Cert: leafFor(t, agent, ours, later)}, Tls: &protobufs.TLSConnectionSettings{InsecureSkipVerify: true},
		}, "unverified"},
		{"with roots that are none", &protobufs.OpAMPConnectionSettings{
			Certificate: &protobufs.TLSCertificate{Cert: leafFor(t, agent, ours, later), CaCert: []byte("x")},
		}, "roots"},
	} {
		t.Run(c.name, func(t *testing.T) {
			msg := &protobufs.ServerToAgent{ConnectionSettings: &protobufs.ConnectionSettingsOffers{Opamp: c.offer}}
			o, err := checkOffer(msg, key, keyPEM, agent, asked, nil, uuid.New())
			if c.says == "" {
				if err != nil || o.id.Endpoint != asked || len(o.id.CA) != 0 {
					t.Errorf("got %+v, %v", o, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}
