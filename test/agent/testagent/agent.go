package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/client"
	"github.com/open-telemetry/opamp-go/client/types"
	"github.com/open-telemetry/opamp-go/protobufs"
)

const (
	patience  = 20 * time.Second // for an offered connection to work
	askAgain  = 5 * time.Second  // how often to ask for a certificate that does not come; the library loses requests
	stopping  = 3 * time.Second  // for a client to say goodbye
	heartbeat = 30 * time.Second // until the server says otherwise
)

type options struct {
	endpoint, transport, state, token, name string
	roots                                   *x509.CertPool
	serverKey, noSettings, exitEnrolled     bool
	remoteConfig                            bool
	renewEvery                              time.Duration // 0: wait for the server's offers
	noProof                                 bool
}

// agent is one agent. Everything but the callbacks of clients happens in run.
type agent struct {
	options
	*reporter
	id     identity
	key    string // our own key: that of the certificate, or of the first one asked for
	next   string // our next key, while a certificate for it is asked for
	csr    []byte // the first request, until it is answered
	offers chan offer

	runs struct { // what it says of its configuration, on every connection
		sync.Mutex
		status *protobufs.RemoteConfigStatus
	}
}

type offer struct {
	settings *protobufs.OpAMPConnectionSettings
	hash     []byte
}

func newAgent(o options, out io.Writer) *agent {
	return &agent{options: o, reporter: &reporter{out: out}, offers: make(chan offer, 16)}
}

func (a *agent) run(ctx context.Context) error {
	var err error
	if a.id, err = loadIdentity(a.state); err != nil {
		return err
	}
	a.key = a.id.Key
	if a.id.Certificate == "" {
		if a.token == "" {
			return errors.New("there is neither an identity nor a token")
		}
		a.id.Endpoint = a.endpoint
		if !a.serverKey {
			if a.key, a.csr, err = newKey(a.id.InstanceUID); err != nil {
				return err
			}
		}
	}
	current, err := a.connect(a.id)
	if err != nil {
		return err
	}
	defer func() { current.stop() }()

	var enrolled chan struct{} // closed when there is reason to end
	again := time.NewTicker(askAgain)
	defer again.Stop()
	var renew <-chan time.Time
	if a.renewEvery > 0 {
		every := time.NewTicker(a.renewEvery)
		defer every.Stop()
		renew = every.C
	}
	for {
		if a.exitEnrolled && a.id.Certificate != "" {
			enrolled = current.answered
		}
		select {
		case <-ctx.Done():
			return nil
		case <-enrolled:
			return nil
		case <-again.C:
			if a.id.Certificate == "" && a.csr != nil {
				current.ask(a.csr)
			}
		case <-renew:
			if a.id.Certificate == "" {
				continue
			}
			request, err := a.renewal()
			if err != nil {
				return err
			}
			current.ask(request)
		case o := <-a.offers:
			next, err := a.accept(ctx, o)
			if err != nil {
				a.tell(event{Event: rejected, Error: err.Error()})
				current.report(o.hash, err)
				continue
			}
			current.stop()
			current = next
		}
	}
}

// accept verifies an offer by connecting with it, and keeps it when that works.
func (a *agent) accept(ctx context.Context, o offer) (*connection, error) {
	id, err := a.id.take(o.settings, a.key, a.next)
	if err != nil {
		return nil, err
	}
	next, err := a.connect(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-next.answered:
	case <-ctx.Done():
		next.stop()
		return nil, errors.New("the offered connection does not work: " + next.lastFailure())
	}
	id.InstanceUID = next.instanceUID()
	if err := id.save(a.state); err != nil {
		next.stop()
		return nil, err
	}
	a.id, a.key, a.next, a.csr = id, id.Key, "", nil
	_, leaf, err := id.tls()
	if err != nil {
		return nil, err // it was tried in take
	}
	a.tell(event{Event: saved, AgentID: leaf.Subject.CommonName, Serial: serial(leaf), InstanceUID: id.InstanceUID.String(), Endpoint: id.Endpoint})
	next.report(o.hash, nil)
	return next, nil
}

// renewal is a request for a certificate for a new key, with the proof that the current one's key wants it.
func (a *agent) renewal() ([]byte, error) {
	key, csr, err := newKey(a.id.InstanceUID)
	if err != nil {
		return nil, err
	}
	a.next = key
	a.tell(event{Event: renewing, By: a.id.by()})
	if a.noProof {
		return csr, nil
	}
	proof, err := proofFor(a.id, csr)
	return append(csr, proof...), err
}

// connection is a client of the library, started.
type connection struct {
	client   client.OpAMPClient
	answered chan struct{} // closed at the server's first message
	once     sync.Once     // closes it

	mu      sync.Mutex
	uid     uuid.UUID
	failure string
}

// connect starts a client with an identity, or the token. That it has started does not mean that it is connected.
func (a *agent) connect(id identity) (*connection, error) {
	u, err := url.Parse(id.Endpoint)
	if err != nil {
		return nil, err
	}
	c := &connection{uid: id.InstanceUID, answered: make(chan struct{})}
	by := id.by()
	told := event{Event: started, By: by, InstanceUID: id.InstanceUID.String(), Endpoint: id.Endpoint}
	config, header := &tls.Config{RootCAs: a.roots}, http.Header{}
	if by == "certificate" {
		var leaf *x509.Certificate
		if config, leaf, err = id.tls(); err != nil {
			return nil, err
		}
		told.AgentID, told.Serial = leaf.Subject.CommonName, serial(leaf)
	} else {
		header.Set("Authorization", "Bearer "+a.token)
	}
	a.tell(told)

	log := logger{to: a.reporter, by: by}
	transport := a.transport
	if transport == "" && (u.Scheme == "https" || u.Scheme == "http") {
		transport = "http"
	}
	if transport == "http" {
		c.client = client.NewHTTP(log)
	} else {
		c.client = client.NewWebSocket(log)
	}
	interval := heartbeat
	if id.Heartbeat > 0 {
		interval = time.Duration(id.Heartbeat) * time.Second // an offer of centuries only means never
	}
	if err := c.prepare(a, id); err != nil {
		return nil, err
	}
	return c, c.client.Start(context.Background(), types.StartSettings{
		RemoteConfigStatus: a.configuration(),
		OpAMPServerURL:     id.Endpoint, Header: header, TLSConfig: config, InstanceUid: types.InstanceUid(id.InstanceUID),
		HeartbeatInterval: &interval, Callbacks: c.callbacks(a, by, told),
	})
}

// prepare sets what the first message says.
func (c *connection) prepare(a *agent, id identity) error {
	capabilities := protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
		protobufs.AgentCapabilities_AgentCapabilities_ReportsHeartbeat |
		protobufs.AgentCapabilities_AgentCapabilities_ReportsConnectionSettingsStatus
	if !a.noSettings {
		capabilities |= protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings
	}
	if a.remoteConfig {
		capabilities |= protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig | protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig
	}
	if err := c.client.SetCapabilities(&capabilities); err != nil {
		return err
	}
	text := func(key, value string) *protobufs.KeyValue {
		return &protobufs.KeyValue{Key: key, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: value}}}
	}
	if err := c.client.SetAgentDescription(&protobufs.AgentDescription{
		IdentifyingAttributes:    []*protobufs.KeyValue{text("service.name", a.name), text("service.instance.id", id.InstanceUID.String())},
		NonIdentifyingAttributes: []*protobufs.KeyValue{text("os.type", "test")},
	}); err != nil {
		return err
	}
	if id.by() == "token" && a.csr != nil {
		return c.client.RequestConnectionSettings(certificateRequest(a.csr))
	}
	return nil
}

func certificateRequest(csr []byte) *protobufs.ConnectionSettingsRequest {
	return &protobufs.ConnectionSettingsRequest{
		Opamp: &protobufs.OpAMPConnectionSettingsRequest{CertificateRequest: &protobufs.CertificateRequest{Csr: csr}},
	}
}

// callbacks run in the client's goroutine, one after the other.
func (c *connection) callbacks(a *agent, by string, told event) types.Callbacks {
	var hash []byte // of the offer that the next call is about
	return types.Callbacks{
		OnConnect: func(context.Context) {
			a.tell(event{Event: connected, By: by, AgentID: told.AgentID, Serial: told.Serial})
		},
		OnConnectFailed: func(_ context.Context, err error) {
			c.mu.Lock()
			c.failure = err.Error()
			c.mu.Unlock()
			a.tell(event{Event: connectFailed, By: by, Error: err.Error()})
		},
		OnError: func(_ context.Context, e *protobufs.ServerErrorResponse) {
			a.tell(event{Event: serverError, By: by, Error: e.GetErrorMessage()})
		},
		OnMessage: func(_ context.Context, m *types.MessageData) {
			hash = m.OfferedConnectionsSettingsHash
			if m.RemoteConfig != nil {
				c.configure(a, by, m.RemoteConfig)
			}
			if uid, err := uuid.FromBytes(m.AgentIdentification.GetNewInstanceUid()); err == nil {
				c.mu.Lock()
				c.uid = uid
				c.mu.Unlock()
				a.tell(event{Event: renamed, By: by, InstanceUID: uid.String()})
			}
			c.once.Do(func() {
				a.tell(event{Event: answered, By: by, AgentID: told.AgentID, Serial: told.Serial})
				close(c.answered)
			})
		},
		OnOpampConnectionSettings: func(_ context.Context, s *protobufs.OpAMPConnectionSettings) error {
			a.tell(describe(s))
			// Not here: whoever accepts stops this client, which waits for its callbacks.
			a.offers <- offer{settings: s, hash: hash}
			return nil
		},
	}
}

// configure takes a configuration.
func (c *connection) configure(a *agent, by string, offered *protobufs.AgentRemoteConfig) {
	status := &protobufs.RemoteConfigStatus{
		LastRemoteConfigHash: offered.GetConfigHash(), Status: protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED,
	}
	told := event{Event: configured, By: by}
	for _, file := range offered.GetConfig().GetConfigMap() {
		told.Body += string(file.GetBody())
	}
	if strings.HasPrefix(told.Body, "bad") {
		status.Status, status.ErrorMessage = protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED, "it begins with 'bad'"
	}
	a.tell(told)
	a.runs.Lock()
	a.runs.status = status
	a.runs.Unlock()
	_ = c.client.SetRemoteConfigStatus(status) // only puts it into the next message
}

// configuration is what the agent says of its configuration, nil while it has none.
func (a *agent) configuration() *protobufs.RemoteConfigStatus {
	a.runs.Lock()
	defer a.runs.Unlock()
	return a.runs.status
}

// describe tells of an offer.
func describe(s *protobufs.OpAMPConnectionSettings) event {
	e := event{
		Event: offered, Endpoint: s.GetDestinationEndpoint(), Heartbeat: s.GetHeartbeatIntervalSeconds(),
		ServerKey: len(s.GetCertificate().GetPrivateKey()) > 0,
	}
	if block, _ := pem.Decode(s.GetCertificate().GetCert()); block != nil {
		if leaf, err := x509.ParseCertificate(block.Bytes); err == nil {
			e.AgentID, e.Serial = leaf.Subject.CommonName, serial(leaf)
		}
	}
	return e
}

// ask asks for a certificate again.
func (c *connection) ask(csr []byte) {
	_ = c.client.RequestConnectionSettings(certificateRequest(csr)) // only puts it into the next message
}

// report tells the server what became of an offer.
func (c *connection) report(hash []byte, err error) {
	status := &protobufs.ConnectionSettingsStatus{
		LastConnectionSettingsHash: hash, Status: protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_APPLIED,
	}
	if err != nil {
		status.Status, status.ErrorMessage = protobufs.ConnectionSettingsStatuses_ConnectionSettingsStatuses_FAILED, err.Error()
	}
	_ = c.client.SetConnectionSettingsStatus(status) // only puts it into the next message
}

func (c *connection) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopping)
	defer cancel()
	_ = c.client.Stop(ctx) // it is of no further use either way
}

func (c *connection) instanceUID() uuid.UUID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uid
}

func (c *connection) lastFailure() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}
