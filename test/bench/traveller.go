package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// travelTime is how long one agent may take to move.
const travelTime = time.Minute

// traveller is an agent that moves: it holds a WebSocket, and follows the first offer of another home.
type traveller struct {
	id    string
	uid   uuid.UUID
	pair  tls.Certificate
	first *websocket.Conn // until it goes
	taken chan time.Time  // when it has read the offer
	conn  *websocket.Conn // where it has gone, nil before; to be read once taken is closed
	err   error           // why it did not come; to be read once taken is closed
}

// newTraveller enrols an agent and connects it.
func newTraveller(ctx context.Context, engine *client.Client, url string, roots string) (*traveller, error) {
	a, err := newApplicant()
	if err != nil {
		return nil, err
	}
	token, err := engine.IssueToken(ctx, apitype.TokenIssueRequest{})
	if err != nil {
		return nil, err
	}
	t := &traveller{uid: uuid.Must(uuid.NewV7()), taken: make(chan time.Time, 1)}
	got, err := engine.Redeem(ctx, apitype.RedeemRequest{
		Token: token.Token, CSR: a.csr, InstanceUID: t.uid.String(), Capabilities: 1 | apitype.CapabilityAcceptsOpAMP,
	})
	if err != nil {
		return nil, err
	}
	if t.pair, err = keyPair(got.Certificate, a.key); err != nil {
		return nil, err
	}
	t.id = got.AgentID
	if t.first, err = t.dial(ctx, url, roots); err != nil {
		return nil, err
	}
	go t.follow(ctx)
	return t, nil
}

func keyPair(certificate string, key *ecdsa.PrivateKey) (tls.Certificate, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair([]byte(certificate), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// dial connects and says the first message.
func (t *traveller) dial(ctx context.Context, url, roots string) (*websocket.Conn, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(roots)) {
		return nil, errors.New("there are no roots")
	}
	dialer := websocket.Dialer{
		TLSClientConfig:  &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{t.pair}, Rand: rand.Reader},
		HandshakeTimeout: travelTime,
	}
	conn, _, err := dialer.DialContext(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	body, err := proto.Marshal(&protobufs.AgentToServer{
		InstanceUid: t.uid[:], Capabilities: 1 | apitype.CapabilityAcceptsOpAMP, AgentDescription: &protobufs.AgentDescription{},
	})
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, conn.WriteMessage(websocket.BinaryMessage, append([]byte{0}, body...))
}

// follow waits for the offer of a new home, and goes there.
func (t *traveller) follow(ctx context.Context) {
	defer close(t.taken)
	for {
		_, raw, err := t.first.ReadMessage()
		if err != nil {
			t.err = err
			return
		}
		var m protobufs.ServerToAgent
		if len(raw) == 0 || proto.Unmarshal(raw[1:], &m) != nil {
			continue
		}
		home := m.GetConnectionSettings().GetOpamp()
		if home.GetDestinationEndpoint() == "" {
			continue
		}
		t.taken <- time.Now()
		if t.conn, err = t.dial(ctx, home.GetDestinationEndpoint(), string(home.GetCertificate().GetCaCert())); err != nil {
			t.err = err
			return
		}
		_ = t.first.Close() // it has gone
		return
	}
}

// leave ends it, wherever it is.
func (t *traveller) leave() {
	_ = t.first.Close() // follow ends
	for range t.taken {
	}
	if t.conn != nil {
		_ = t.conn.Close()
	}
}
