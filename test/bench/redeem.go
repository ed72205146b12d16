package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// beginner is an agent that has a token and nothing else.
type beginner struct {
	token string
	key   *ecdsa.PrivateKey
	full  []byte // the message with everything, the CSR as well
}

func newBeginner(token string) (*beginner, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	uid := uuid.Must(uuid.NewV7())
	m := describe(uid)
	m.ConnectionSettingsRequest = &protobufs.ConnectionSettingsRequest{Opamp: &protobufs.OpAMPConnectionSettingsRequest{
		CertificateRequest: &protobufs.CertificateRequest{Csr: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})},
	}}
	full, err := wire(m)
	return &beginner{token: token, key: key, full: full}, err
}

// redeem turns every token into an agent, all at once. Each agent tries until it works or the patience is over.
func (f *fleet) redeem(o order) (out outcome, err error) {
	all := make([]*beginner, len(o.Tokens))
	for i, token := range o.Tokens {
		if all[i], err = newBeginner(token); err != nil {
			return out, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.For)
	defer cancel()
	out.Times, out.Identities = make([]int64, len(all)), make([]identity, len(all))
	errs := make([]error, len(all))
	var trouble tally
	var wg sync.WaitGroup
	start := time.Now()
	for i, b := range all {
		wg.Go(func() {
			errs[i] = insist(ctx, func() (err error) { out.Identities[i], err = f.bootstrap(o.URL, b); return err }, trouble.add)
			out.Times[i] = time.Now().UnixNano()
		})
	}
	wg.Wait()
	out.Began, out.Took = start.UnixNano(), time.Since(start)
	trouble.tell(&out)
	for _, err := range errs {
		if err != nil {
			return out, fmt.Errorf("a token was not redeemed within %v: %w; refused: %s; failed: %s", o.For, err, counts(out.Refused), counts(out.Broken))
		}
	}
	out.Done = len(all)
	return out, nil
}

// bootstrap is one try: a session with the token, the CSR in its first message, and the certificate in the answer.
func (f *fleet) bootstrap(url string, b *beginner) (identity, error) {
	conn, err := f.dial(url, &tls.Config{}, http.Header{"Authorization": {"Bearer " + b.token}})
	if err != nil {
		return identity{}, err
	}
	defer conn.Close()
	raw, err := ask(conn, b.full, time.Minute)
	if err != nil {
		return identity{}, err
	}
	answer := &protobufs.ServerToAgent{}
	if err := proto.Unmarshal(bytes.TrimPrefix(raw, []byte{0}), answer); err != nil {
		return identity{}, err
	}
	if e := answer.GetErrorResponse(); e != nil {
		code, _, _ := bytes.Cut([]byte(e.ErrorMessage), []byte(":"))
		return identity{}, &refusal{code: string(code), after: time.Duration(e.GetRetryInfo().GetRetryAfterNanoseconds())}
	}
	block, _ := pem.Decode(answer.GetConnectionSettings().GetOpamp().GetCertificate().GetCert())
	if block == nil {
		return identity{}, errors.New("the answer holds no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return identity{}, err
	}
	if k, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(b.key.Public()) {
		return identity{}, errors.New("the certificate is for another key")
	}
	key, err := x509.MarshalPKCS8PrivateKey(b.key)
	_ = conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	return identity{AgentID: leaf.Subject.CommonName, Certificate: block.Bytes, Key: key}, err
}

// describe is the message in which an agent tells all of itself.
func describe(uid uuid.UUID) *protobufs.AgentToServer {
	text := func(k, v string) *protobufs.KeyValue {
		return &protobufs.KeyValue{Key: k, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: v}}}
	}
	return &protobufs.AgentToServer{
		InstanceUid: uid[:], Capabilities: 1 | apitype.CapabilityAcceptsOpAMP,
		AgentDescription: &protobufs.AgentDescription{
			IdentifyingAttributes: []*protobufs.KeyValue{
				text("service.name", "io.opentelemetry.collector"), text("service.version", "0.149.0"), text("service.instance.id", uid.String()),
			},
			NonIdentifyingAttributes: []*protobufs.KeyValue{
				text("os.type", "linux"), text("os.description", "Debian GNU/Linux 13"), text("host.arch", "amd64"), text("host.name", fmt.Sprint("host-", uid)),
			},
		},
	}
}

// wire is a message as it goes into a WebSocket: OpAMP's header, which is zero as a varint, and the protobuf.
func wire(m *protobufs.AgentToServer) ([]byte, error) {
	raw, err := proto.Marshal(m)
	return append([]byte{0}, raw...), err
}
