package edge_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/edge"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/gorilla/websocket"
)

// foreignCA is a CA that has nothing to do with the engine.
type foreignCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newForeignCA(t *testing.T) *foreignCA {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another CA"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))(t)
	return &foreignCA{key: key, cert: must(x509.ParseCertificate(der))(t)}
}

func (ca *foreignCA) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// writeServer writes certificate and key of a server at 127.0.0.1.
func (ca *foreignCA) writeServer(t *testing.T, dir string, serial int64) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key))(t)
	keyDER := must(x509.MarshalPKCS8PrivateKey(key))(t)
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAnEdgeWithACertificateOfAnUnrelatedCA(t *testing.T) {
	dir := t.TempDir()
	ca := newForeignCA(t)
	ca.writeServer(t, dir, 2)
	w := newWorld(t, func(o *edge.Options) {
		o.TLSCert, o.TLSKey, o.TLSCA = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")
	})
	w.roots = x509.NewCertPool()
	w.roots.AddCert(ca.cert)
	a := w.newAgent("Bearer " + w.token())
	c := a.mustDial()
	c.send(a.message(a.withCSR()))
	reply := c.receive()
	if got := reply.GetConnectionSettings().GetOpamp().GetCertificate().GetCaCert(); string(got) != string(ca.pem()) {
		t.Errorf("the offer's roots are %s", got)
	}
	a.take(reply) // from here on only the offer's roots are trusted
	c = a.mustDial()
	if n := c.conn.NetConn().(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64(); n != 2 {
		t.Fatalf("the serial number is %d", n)
	}

	// A certificate that the roots do not verify would lock every agent out: it is not taken.
	newForeignCA(t).writeServer(t, dir, 3)
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.pem(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.eventually("the wrong certificate is seen", 15*time.Second, func() bool { return contains(w.log.String(), "is not taken") })
	a.mustDial()
	ca.writeServer(t, dir, 4)
	w.eventually("the renewed certificate is served", 15*time.Second, func() bool {
		conn, err := tls.Dial("tcp", w.addr, a.tls())
		if err != nil {
			return false
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64() == 4
	})
}

func TestTheSystemsRootsAreNotSent(t *testing.T) {
	dir := t.TempDir()
	ca := newForeignCA(t)
	ca.writeServer(t, dir, 2)
	w := newWorld(t, func(o *edge.Options) {
		o.TLSCert, o.TLSKey, o.TLSCA = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), "system"
	})
	w.roots = x509.NewCertPool()
	w.roots.AddCert(ca.cert)
	a := w.newAgent("Bearer " + w.token())
	reply, refused := a.poll(a.message(a.withCSR()))
	if refused != nil {
		t.Fatalf("%+v", refused)
	}
	offer := reply.GetConnectionSettings().GetOpamp()
	if len(offer.GetCertificate().GetCert()) == 0 || len(offer.GetCertificate().GetCaCert()) != 0 || offer.GetTls() != nil {
		t.Errorf("the offer is %v", offer)
	}
}

func TestTheCertificateFollowsTheEndpoint(t *testing.T) {
	w := newWorld(t)
	if err := w.vault.UpdateConfig(t.Context(), map[string]any{"endpoint": "wss://edge.example:4320/v1/opamp"}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the new name is served", 10*time.Second, func() bool {
		conn, err := tls.Dial("tcp", w.addr, &tls.Config{RootCAs: w.roots, ServerName: "edge.example"})
		if err != nil {
			return false
		}
		defer conn.Close()
		leaf := conn.ConnectionState().PeerCertificates[0]
		return len(leaf.URIs) == 0 && len(leaf.IPAddresses) == 0
	})
}

func TestTLSBelow12IsRefused(t *testing.T) {
	w := newWorld(t)
	conn, err := tls.Dial("tcp", w.addr, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		conn.Close()
		t.Fatal("TLS 1.1 was spoken")
	}
	if strings.Contains(w.log.String(), "[ERROR]") {
		t.Error("a broken handshake is logged as an error")
	}
}

func TestBehindABalancerTheAgentsAddressCounts(t *testing.T) {
	w := newWorld(t, func(o *edge.Options) { o.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	bound := w.token(apitype.TokenIssueRequest{BoundCIDRs: []string{"203.0.113.0/24"}})
	a := w.newAgent("Bearer " + bound)
	d := websocket.Dialer{TLSClientConfig: a.tls(), HandshakeTimeout: 5 * time.Second, NetDial: func(network, addr string) (net.Conn, error) {
		conn, err := net.Dial(network, addr)
		if err == nil {
			_, err = io.WriteString(conn, "PROXY TCP4 203.0.113.7 127.0.0.1 40000 4320\r\n")
		}
		return conn, err
	}}
	conn, _, err := d.Dial("wss://"+w.addr+"/v1/opamp", a.header())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := &wire{t: t, conn: conn, agent: a}
	c.send(a.message(a.withCSR()))
	leaf := a.take(c.receive())
	row, err := w.vault.Agent(t.Context(), leaf.Subject.CommonName)
	if err != nil || row.SourceIP != "203.0.113.7" {
		t.Errorf("the row is %+v, %v", row, err)
	}
}
