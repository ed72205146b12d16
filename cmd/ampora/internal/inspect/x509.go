package inspect

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/identity"
)

func certificateItem(der []byte, now time.Time) (Item, *x509.Certificate) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Item{Kind: KindForeignCert, Problem: "it cannot be read as an X.509 certificate: it was cut off or changed"}, nil
	}
	item := Item{Kind: KindForeignCert, Intact: true}
	if serial, ok := identity.ParseSerial(cert.SerialNumber); ok && kindFits(serial.Kind(), cert) {
		describeOurs(&item, cert, serial)
	}
	f := &item.Fields
	f.add("subject", cert.Subject.String())
	f.add("issuer", cert.Issuer.String())
	f.add("names", strings.Join(namesOf(cert), ", "))
	f.add("serial_number", colonHex(cert.SerialNumber.Bytes()))
	f.add("fingerprint", fingerprint(cert))
	f.add("key", keyName(cert.PublicKey))
	f.add("not_before", cert.NotBefore.UTC().Format(time.RFC3339))
	f.add("not_after", cert.NotAfter.UTC().Format(time.RFC3339))
	switch {
	case now.After(cert.NotAfter):
		item.Intact, item.Problem = false, "it has expired"
	case now.Before(cert.NotBefore):
		item.Intact, item.Problem = false, "it is not valid yet, by the clock of this machine"
	case item.Problem == "":
		f.add("valid_for", lasting(cert.NotAfter.Sub(now)))
	}
	return item, cert
}

// kindFits keeps a stranger's serial that happens to begin with one of our kind bytes from being taken for ours.
func kindFits(kind identity.Kind, cert *x509.Certificate) bool {
	if len(cert.SerialNumber.Bytes()) != identity.SerialBytes {
		return false
	}
	has := func(usage x509.ExtKeyUsage) bool {
		for _, u := range cert.ExtKeyUsage {
			if u == usage {
				return true
			}
		}
		return false
	}
	switch kind {
	case identity.KindLeaf:
		return !cert.IsCA && has(x509.ExtKeyUsageClientAuth)
	case identity.KindEdge:
		return !cert.IsCA && (has(x509.ExtKeyUsageServerAuth) || has(x509.ExtKeyUsageOCSPSigning))
	case identity.KindIssuer:
		return cert.IsCA
	}
	return false
}

func describeOurs(item *Item, cert *x509.Certificate, serial identity.Serial) {
	switch serial.Kind() {
	case identity.KindEdge:
		item.Kind = KindEdgeCert
	case identity.KindIssuer:
		item.Kind = KindIssuerCert
		item.Fields.add("self_signed", cert.CheckSignatureFrom(cert) == nil)
	case identity.KindLeaf:
		item.Kind = KindAgentCert
		describeLeaf(item, cert, serial)
	}
}

// describeLeaf names the agent. CN, SPIFFE ID and serial must name the same one, or the edge will not take it.
func describeLeaf(item *Item, cert *x509.Certificate, serial identity.Serial) {
	f := &item.Fields
	f.add("agent_id", serial.AgentID())
	f.add("generation", serial.Generation())
	// The generation's top byte counts how often Vault was restored from a backup.
	f.add("restore_count", serial.Generation()>>16)
	if len(cert.URIs) != 1 || cert.URIs[0].Scheme != "spiffe" || cert.Subject.CommonName != serial.AgentID() {
		item.Intact, item.Problem = false, "its names do not agree: no edge will take it"
		return
	}
	id := cert.URIs[0]
	f.add("trust_domain", id.Host)
	tenant := ""
	if rest, found := strings.CutPrefix(id.Path, "/tenant/"); found {
		tenant, _, _ = strings.Cut(rest, "/")
	}
	f.add("tenant", tenant)
	if id.String() != identity.SPIFFEID(id.Host, tenant, serial.AgentID()).String() {
		item.Intact, item.Problem = false, "its names do not agree: no edge will take it"
	}
}

func requestItem(der []byte) Item {
	item := Item{Kind: KindRequest}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		item.Problem = "it cannot be read: it was cut off or changed"
		return item
	}
	if csr.CheckSignature() != nil {
		item.Problem = "its signature is not that of its own key"
		return item
	}
	item.Intact = true
	item.Fields.add("subject", csr.Subject.String())
	item.Fields.add("key", keyName(csr.PublicKey))
	item.Fields.add("public_key_sha256", spkiHash(csr.PublicKey))
	return item
}

func keyItem(block *pem.Block) (Item, crypto.PublicKey) {
	item := Item{Kind: KindPrivateKey}
	var (
		key any
		err error
	)
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		item.Problem = "it cannot be read: it was cut off or changed"
		return item, nil
	}
	item.Intact = true
	item.Fields.add("key", keyName(signer.Public()))
	// The public half only: enough to compare, and nobody's secret.
	item.Fields.add("public_key_sha256", spkiHash(signer.Public()))
	return item, signer.Public()
}

func keyName(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	}
	return "of an unknown type"
}

func spkiHash(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func fingerprint(cert *x509.Certificate) string { return identity.Fingerprint(cert.Raw) }

func colonHex(b []byte) string {
	parts := make([]string, len(b))
	for i := range b {
		parts[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(parts, ":")
}

func namesOf(cert *x509.Certificate) []string {
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range cert.URIs {
		names = append(names, u.String())
	}
	return names
}

// lasting spells a time left as people count it.
func lasting(d time.Duration) string {
	if days := int(d.Hours() / 24); days > 1 {
		return fmt.Sprintf("%d days", days)
	}
	return d.Round(time.Minute).String()
}
