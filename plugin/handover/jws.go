package handover

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
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
		return jose.PS256, true
	}
	return "", false
}

// Sign makes a compact JWS (RFC 7515) of the claims with an issuer's own key.
func Sign(key crypto.Signer, typ string, claims any) (string, error) {
	alg, ok := algorithm(key.Public())
	if !ok {
		return "", apitype.Errorf(apitype.KeyNotAllowed, "the issuer's key cannot sign documents")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
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
		if err := json.NewDecoder(bytes.NewReader(payload)).Decode(claims); err != nil {
			return apitype.Errorf(apitype.HandoverMalformed, "a claim is missing, doubled or of the wrong type")
		}
		return nil
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
	if json.Unmarshal(signed.UnsafePayloadWithoutVerification(), claims) != nil {
		return apitype.Errorf(apitype.HandoverMalformed, "a claim is missing, doubled or of the wrong type")
	}
	return nil
}

var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, jose.PS256}

// parse reads the outside of a document.
func parse(compact, typ string) (*jose.JSONWebSignature, error) {
	if len(compact) > MaxDocument {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it has more than %d bytes", MaxDocument)
	}
	if kind := foreign(compact); kind != "" {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "this is %s", kind)
	}
	signed, err := jose.ParseSignedCompact(compact, algorithms)
	if err != nil || len(signed.Signatures) != 1 {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it is no compact JWS with an algorithm of ours")
	}
	if again, err := signed.CompactSerialize(); err != nil || again != compact {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it is not in its one spelling") // or its hash would not name it
	}
	header := signed.Signatures[0].Protected
	for _, refused := range []jose.HeaderKey{"jku", "x5u", "crit"} {
		if _, found := header.ExtraHeaders[refused]; found {
			return nil, apitype.Errorf(apitype.HandoverMalformed, "its header may not have %s", refused)
		}
	}
	if header.JSONWebKey != nil {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "its header may not have jwk")
	}
	if got, _ := header.ExtraHeaders[jose.HeaderType].(string); got != typ {
		return nil, apitype.Errorf(apitype.HandoverMalformed, "it is %s, where %s belongs", describe(got), describe(typ))
	}
	return signed, nil
}

// foreign names what people paste in the place of a document.
func foreign(text string) string {
	switch {
	case strings.HasPrefix(text, "amp-bs."):
		return "a bootstrap token, which an agent redeems at an edge"
	case strings.HasPrefix(text, "amp-ps."):
		return "a pool's admin secret"
	case strings.Contains(text, "PRIVATE KEY"):
		return "or holds a private key, which nobody may be given; make a new one"
	case strings.HasPrefix(text, "-----BEGIN"):
		return "a PEM file"
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
