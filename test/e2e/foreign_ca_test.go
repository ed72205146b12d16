package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// foreignCertificate makes a CA that has nothing to do with ours, and a certificate of it for a server on loopback. It
// answers the files' paths.
func (in *installation) foreignCertificate() (ca, cert, key string) {
	in.t.Helper()
	t := in.t
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		return k
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	caKey, serverKey := newKey(), newKey()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Somebody else's CA"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, caKey.Public(), caKey)
	must(t, err)
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "edge"}, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	serverDER, err := x509.CreateCertificate(rand.Reader, server, root, serverKey.Public(), caKey)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(serverKey)
	must(t, err)
	return in.write("foreign-ca.pem", block("CERTIFICATE", rootDER)),
		in.write("foreign-cert.pem", block("CERTIFICATE", serverDER)), in.write("foreign-key.pem", block("PRIVATE KEY", keyDER))
}

func TestEdgeWithACertificateOfAnUnrelatedCA(t *testing.T) {
	t.Parallel()
	in := install(t)
	ca, cert, key := in.foreignCertificate()
	e := in.edge("one", "--tls-cert", cert, "--tls-key", key, "--tls-ca", ca)
	in.ca = ca // what agents are given to begin with

	ours := in.token()
	a := in.agent(e.endpoint("wss"), ours.Token, filepath.Join(in.dir, "state"))
	kept := a.AwaitEnrolled()
	if got := a.Identity().CA; strings.TrimSpace(got) != strings.TrimSpace(in.read(ca)) {
		t.Errorf("the offer carries another CA:\n%s", got)
	}
	in.wantEnrolled(ours)

	theirs := in.token()
	in.supervisor("supervisor", bootstrapServer(e.endpoint("wss"), theirs.Token, ca))

	byHand := in.token()
	if said, ok := in.enroll(e.endpoint("wss"), byHand.Token, filepath.Join(in.dir, "identity")); !ok {
		t.Errorf("ampora enroll failed:\n%s", said)
	}
	in.wantEnrolled(byHand)

	eventually(t, "the supervisor has redeemed its token", time.Minute, func() bool { return len(in.agents()) == 3 })
	in.wantSeen(in.wantEnrolled(theirs).AgentID, "one")

	// All come back over it by themselves.
	before := len(a.All())
	e.kill()
	e.start()
	e.awaitReady()
	if back := a.AwaitBack(before); back.Serial != kept.Serial {
		t.Errorf("the agent came back as %s", asJSON(back))
	}
	eventually(t, "agent and supervisor are back", time.Minute, func() bool { _, state := e.ready(); return state.Sessions == 2 })
}
