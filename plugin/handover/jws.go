package handover

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	stdjson "encoding/json"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// RSA moduli outside these bounds, in bits, sign nothing: they are those of our issuers' keys.
const (
	minRSABits = 3072
	maxRSABits = 4096
)

// algorithm is the one signature algorithm of a key (RFC 7518 section 3.1, RFC 8037): alg follows from the key that is
// pinned, never from the document.
func algorithm(public crypto.PublicKey) (jose.SignatureAlgorithm, bool) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return jose.ES256, true
		case 384:
			return jose.ES384, true
		}
	case ed25519.PublicKey:
		return jose.EdDSA, true
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits >= minRSABits && bits <= maxRSABits {
			return jose.PS256, true
		}
	}
	return "", false
}

// Sign makes a compact JWS (RFC 7515) of the claims with an issuer's own key. Errors: key_not_allowed, and body_too_large
// when nobody would take the document, being longer than MaxDocument (a manifest: MaxManifest).
func Sign(key crypto.Signer, typ string, claims any) (string, error) {
	alg, ok := algorithm(key.Public())
	if !ok {
		return "", apitype.Errorf(apitype.KeyNotAllowed, "the issuer's key cannot sign documents")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	payload, err := marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		return "", err
	}
	if most := bound(typ); len(compact) > most {
		return "", apitype.Errorf(apitype.BodyTooLarge, "the document would have more than %d bytes", most)
	}
	return compact, nil
}

// bound is how long a document of that type may be, in bytes.
func bound(typ string) int {
	if typ == TypeManifest {
		return MaxManifest
	}
	return MaxDocument
}

// marshal writes <, > and & as they are: descriptions are long enough.
func marshal(claims any) ([]byte, error) {
	var b bytes.Buffer
	encoder := stdjson.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(claims); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// Verify checks that one of the pinned certificates' keys signed the document, which has to be of the type, and reads its
// claims. Nothing that the document says of keys counts: not x5c, not kid, and jwk, jku, x5u and crit are refused. Errors:
// handover_malformed, handover_signature_invalid.
func Verify(compact, typ string, pinned []*x509.Certificate, claims any) error {
	signed, err := parse(compact, typ)
	if err != nil {
		return err
	}
	alg := signed.Signatures[0].Protected.Algorithm
	for _, cert := range pinned {
		if want, ok := algorithm(cert.PublicKey); !ok || string(want) != alg {
			continue
		}
		payload, err := signed.Verify(cert.PublicKey)
		if err != nil {
			continue
		}
		return decode(payload, claims)
	}
	return apitype.Errorf(apitype.HandoverSignatureInvalid, "no pinned key has signed this")
}

// Unverified reads the claims of a document without checking who signed it: for looking at, and for finding the peer whose
// keys to check it with.
func Unverified(compact, typ string, claims any) error {
	signed, err := parse(compact, typ)
	if err != nil {
		return err
	}
	return decode(signed.UnsafePayloadWithoutVerification(), claims)
}

// decode reads claims: one JSON object and nothing behind it. go-jose's reader tells small letters from capitals and refuses
// doubled members.
func decode(payload []byte, claims any) error {
	if trimmed := bytes.TrimLeft(payload, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '{' {
		return apitype.Errorf(apitype.HandoverMalformed, "its content is no JSON object")
	}
	if json.Unmarshal(payload, claims) != nil {
		return apitype.Errorf(apitype.HandoverMalformed, "its content is no JSON, or a claim is doubled or of the wrong type")
	}
	return nil
}

var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, jose.PS256}

// refused are header parameters by which a document would choose its own key (RFC 7515 section 4.1), or the way its
// signature is made (section 4.1.11, RFC 7797).
var refused = []string{"jwk", "jku", "x5u", "crit", "b64"}

// parse reads the outside of a document.
func parse(compact, typ string) (*jose.JSONWebSignature, error) {
	if most := bound(typ); len(compact) > most {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it has more than %d bytes", most)
	}
	if kind := foreign(compact); kind != "" {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "this is %s", kind)
	}
	header, err := parseHeader(compact)
	if err != nil {
		return nil, err
	}
	for _, name := range refused {
		if _, found := header[name]; found {
			return nil, apitype.Errorf(apitype.HandoverMalformed, "its header may not have %s", name)
		}
	}
	if got := headerText(header, "typ"); got != typ {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it is %s, where %s belongs", describe(got), describe(typ))
	}
	signed, err := jose.ParseSignedCompact(compact, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it is no compact JWS with an algorithm of ours")
	}
	if again, err := signed.CompactSerialize(); err != nil || again != compact {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it is not in its one spelling") // or its hash would not name it
	}
	return signed, nil
}

// parseHeader reads the header for itself: go-jose forgets parameters that are null.
func parseHeader(compact string) (map[string]json.RawMessage, error) {
	first, _, _ := strings.Cut(compact, ".")
	raw, err := base64.RawURLEncoding.DecodeString(first)
	var header map[string]json.RawMessage
	if err != nil || json.Unmarshal(raw, &header) != nil || header == nil {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it is no compact JWS")
	}
	return header, nil
}

// headerText is a parameter that is a string, "" for any other.
func headerText(header map[string]json.RawMessage, name string) string {
	var text string
	if json.Unmarshal(header[name], &text) != nil {
		return ""
	}
	return text
}

const privateKey = "PRIVATE KEY"

// foreign names what people paste in the place of a document. None of it has the shape of a JWS.
func foreign(text string) string {
	if strings.Count(text, ".") == 2 && strings.HasPrefix(text, "ey") {
		return ""
	}
	switch {
	case strings.HasPrefix(text, string(token.Bootstrap)+"."):
		return "a bootstrap token, which an agent redeems at an edge"
	case strings.HasPrefix(text, string(token.PoolSecret)+"."):
		return "a pool's admin secret"
	case strings.Contains(text, privateKey):
		return "or holds a private key, which nobody may be given; make a new one"
	case strings.HasPrefix(text, "-----BEGIN"):
		return "a PEM file"
	case strings.HasPrefix(text, "{") && strings.Contains(text, `"handover_token"`):
		return "the whole answer: take only handover_token, as with -field=handover_token"
	case strings.HasPrefix(text, "{") && strings.Contains(text, `"bundle_jws"`):
		return "a peer's bundle file, which is written to peers/<name>"
	case strings.HasPrefix(text, "ey") && strings.Contains(text, "\n"):
		return "more than one line; of a handover file, 'ampora handover redeem' takes the whole"
	case text == "":
		return "empty"
	}
	return ""
}

// describe says what a document of that type is.
func describe(typ string) string {
	switch typ {
	case TypeHandover:
		return "a handover token"
	case TypeReceipt:
		return "a receipt"
	case TypeBundle:
		return "a peer's bundle"
	case TypeManifest:
		return "the manifest of a handover file"
	}
	return "something else"
}

// Split takes a handover token apart into the token and its lineage, newest first: they are joined by "~", which is in no
// JWS. White space around it is ignored. The error is handover_malformed.
func Split(text string) (token string, lineage []string, err error) {
	text = strings.TrimSpace(text)
	if len(text) > MaxString {
		return "", nil, apitype.Errorf(apitype.HandoverMalformed, "it has more than %d bytes", MaxString)
	}
	parts := strings.Split(text, "~")
	if len(parts) > MaxLineage {
		return "", nil, apitype.Errorf(apitype.HandoverMalformed, "its lineage has more than %d tokens", MaxLineage-1)
	}
	return parts[0], parts[1:], nil
}

// Join puts a token and its lineage together. Of a lineage that would be too long the oldest tokens are left out.
func Join(token string, lineage []string) string {
	text := token
	for i, earlier := range lineage {
		if i+2 > MaxLineage || len(text)+1+len(earlier) > MaxString {
			break
		}
		text += "~" + earlier
	}
	return text
}
