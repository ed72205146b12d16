package handover_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
)

// pinned finds the peers whose issuers stand in testdata.
type pinned struct{}

func (pinned) ByID(peerID string) (handover.PeerKeys, error) {
	text, err := os.ReadFile("testdata/" + peerID + ".pem")
	if err != nil {
		return handover.PeerKeys{}, apitype.Errorf(apitype.PeerUnknown, "no peer has this peer_id")
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	return handover.PeerKeys{PeerID: peerID, TrustDomain: peerID + ".example", Pinned: []*x509.Certificate{cert}}, err
}

// An agent that eu-region had handed to eu-west-region comes home.
func ExampleOpen() {
	text, err := os.ReadFile("testdata/home-again.token")
	if err != nil {
		fmt.Println(err)
		return
	}
	at := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	o, err := handover.Open(string(text), "eu-region", pinned{}, at)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("handover: ", o.Token.ID)
	fmt.Println("from:     ", o.Peer.PeerID)
	fmt.Println("agent:    ", o.Token.Agent.DisplayName, o.Identity.AgentID)
	fmt.Println("hash:     ", o.Hash)
	home, err := o.Home("eu-region", pinned{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("went with:", home.Token.ID)
	// Output:
	// handover:  a9137554-b4b4-49f5-88ef-ac9efb3c8fe8
	// from:      eu-west-region
	// agent:     collector-7 b017e28a-a143-444e-ace6-0bff9e300662
	// hash:      9567bcc7b8806522fa1d87d91901b816abd591ac090c995b9f061aa028608b53
	// went with: 8670f805-179f-410b-9fe9-2e75a10bc662
}

func ExampleOpen_somewhereElse() {
	text, _ := os.ReadFile("testdata/home-again.token")
	at := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	_, err := handover.Open(string(text), "us-region", pinned{}, at)
	fmt.Println(err)
	_, err = handover.Open(strings.Replace(string(text), "A", "B", 1), "eu-region", pinned{}, at)
	fmt.Println(err)
	_, err = handover.Open(string(text), "eu-region", pinned{}, at.Add(time.Hour))
	fmt.Println(err)
	// Output:
	// handover_wrong_audience: it was made for another peer: redeem the token at the peer that it was made for, or make one for this peer at the source
	// handover_signature_invalid: no pinned key has signed this: see that this side has the newest bundle of the peer (vault read ampora/peers/<name>), and that the token was copied intact
	// handover_expired: its time is over: make a fresh handover token at the source; ttl and handover_ttl say how long one lives
}

func ExampleSign() {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	receipt, err := handover.Sign(key, handover.TypeReceipt, handover.Receipt{
		Issuer: "eu-west-region", Audience: "eu-region", IssuedAt: 1772366400, Step: handover.StepRedeemed,
		HandoverID: "0b0f4f6e-8c1c-4a54-9d7e-0d1c0a3f6f11",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var claims handover.Receipt
	if err := handover.Unverified(receipt, handover.TypeReceipt, &claims); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(claims.Step, "by", claims.Issuer, "for", claims.Audience)
	fmt.Println(handover.Hash(receipt))
	// Output:
	// redeemed by eu-west-region for eu-region
	// 545948ec9886476bd1bc0cfe80a4d3a7bab3a335e6abdc25c704b87a55e79997
}

func ExampleSourceState_On() {
	step := handover.Pending.On(handover.GotRedeemed, false)
	fmt.Println(step.Next, step.Event, step.Answer)
	step = handover.Pending.On(handover.GotRedeemed, true)
	fmt.Println(step.Next, step.Event, step.Answer, step.Code)
	// Output:
	// released Handover.Released released
	// expired Handover.Expired refused handover_expired
}
