package handover_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/identity"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// TestNobodyElsesSignatureCounts tries every way to sign without the pinned key.
func TestNobodyElsesSignatureCounts(t *testing.T) {
	source, target, other := newSide("eu"), newSide("us"), newSide("eu")
	claims := source.token(target)
	content := string(must(json.Marshal(claims)))
	_, leafKey := source.leaf(claims.Agent.AgentID, "", nil)
	pinned := source.issuer.cert
	rsaKey := keys["RSA"]().(*rsa.PrivateKey)
	public := must(x509.MarshalPKIXPublicKey(source.issuer.key.Public()))
	good := by(source.issuer.key)
	sibling := issuer{key: keys["P-256"]()} // a CA of the same parent is another key
	jwk := map[string]string{"kty": "OKP", "crv": "Ed25519", "x": b64(make([]byte, 32))}

	for name, bad := range map[string]struct {
		text   string
		code   apitype.Code
		detail string
	}{
		"alg none":                         {forge(header("none", nil), content, unsigned), apitype.HandoverMalformed, "algorithm"},
		"alg None":                         {forge(header("None", nil), content, unsigned), apitype.HandoverMalformed, "algorithm"},
		"alg none, signed all the same":    {forge(header("none", nil), content, good), apitype.HandoverMalformed, "algorithm"},
		"no alg":                           {forge(`{"typ":"ampora-handover+jwt"}`, content, good), apitype.HandoverMalformed, "algorithm"},
		"HS256 with the public key":        {forge(header("HS256", nil), content, hs256(public)), apitype.HandoverMalformed, "algorithm"},
		"HS256 with the certificate":       {forge(header("HS256", nil), content, hs256(pinned.Raw)), apitype.HandoverMalformed, "algorithm"},
		"HS256 with the PEM":               {forge(header("HS256", nil), content, hs256([]byte(pemOf(pinned)))), apitype.HandoverMalformed, "algorithm"},
		"RS256":                            {forge(header("RS256", nil), content, pkcs1(rsaKey)), apitype.HandoverMalformed, "algorithm"},
		"another algorithm than the key's": {forge(header("ES384", nil), content, good), apitype.HandoverSignatureInvalid, ""},
		"EdDSA with the pinned key's":      {forge(header("EdDSA", nil), content, good), apitype.HandoverSignatureInvalid, ""},
		"no signature":                     {forge(header("ES256", nil), content, unsigned), apitype.HandoverSignatureInvalid, ""},
		"a signature of zeros":             {forge(header("ES256", nil), content, func([]byte) []byte { return make([]byte, 64) }), apitype.HandoverSignatureInvalid, ""},
		"an unpinned key":                  {forge(header("ES256", nil), content, by(other.issuer.key)), apitype.HandoverSignatureInvalid, ""},
		"the leaf's key":                   {forge(header("ES256", nil), content, by(leafKey)), apitype.HandoverSignatureInvalid, ""},
		"a sibling's key":                  {forge(header("ES256", nil), content, by(sibling.key)), apitype.HandoverSignatureInvalid, ""},
		"a foreign x5c":                    {forge(header("ES256", map[string]any{"x5c": chain(other.issuer.cert)}), content, by(other.issuer.key)), apitype.HandoverSignatureInvalid, ""},
		"an x5c that leads to the pinned":  {forge(header("ES256", map[string]any{"x5c": chain(other.issuer.cert, pinned)}), content, by(other.issuer.key)), apitype.HandoverSignatureInvalid, ""},
		"50 certificates":                  {forge(header("ES256", map[string]any{"x5c": repeat(chain(other.issuer.cert)[0], 50)}), content, by(other.issuer.key)), apitype.HandoverSignatureInvalid, ""},
		"an x5c that is no certificate":    {forge(header("ES256", map[string]any{"x5c": []string{"AAAA"}}), content, good), apitype.HandoverMalformed, ""},
		"its own key":                      {forge(header("EdDSA", map[string]any{"jwk": jwk}), content, good), apitype.HandoverMalformed, "jwk"},
		"its own key, null":                {forge(header("ES256", map[string]any{"jwk": nil}), content, good), apitype.HandoverMalformed, "jwk"},
		"a key to fetch":                   {forge(header("ES256", map[string]any{"jku": "https://a.example/keys"}), content, good), apitype.HandoverMalformed, "jku"},
		"a certificate to fetch":           {forge(header("ES256", map[string]any{"x5u": "https://a.example/cert"}), content, good), apitype.HandoverMalformed, "x5u"},
		"something critical":               {forge(header("ES256", map[string]any{"crit": []string{"exp"}}), content, good), apitype.HandoverMalformed, "crit"},
		"content that is not encoded":      {forge(header("ES256", map[string]any{"b64": false}), content, good), apitype.HandoverMalformed, "b64"},
		"alg twice":                        {forge(`{"alg":"ES256","alg":"none","typ":"ampora-handover+jwt"}`, content, good), apitype.HandoverMalformed, ""},
		"typ in capitals":                  {forge(header("ES256", map[string]any{"typ": "AMPORA-HANDOVER+JWT"}), content, good), apitype.HandoverMalformed, "where a handover token belongs"},
		"a plain JWT":                      {forge(header("ES256", map[string]any{"typ": "JWT"}), content, good), apitype.HandoverMalformed, "something else"},
		"no typ":                           {forge(`{"alg":"ES256"}`, content, good), apitype.HandoverMalformed, "where a handover token belongs"},
		"typ a number":                     {forge(header("ES256", map[string]any{"typ": 1}), content, good), apitype.HandoverMalformed, "where a handover token belongs"},
		"a receipt":                        {must(handover.Sign(source.issuer.key, handover.TypeReceipt, claims)), apitype.HandoverMalformed, "it is a receipt, where a handover token belongs"},
		"a bundle":                         {must(handover.Sign(source.issuer.key, handover.TypeBundle, claims)), apitype.HandoverMalformed, "it is a peer's bundle"},
		"another spelling of the header":   {forge(`{"typ":"ampora-handover+jwt","alg":"ES256"}`, content, good), apitype.HandoverMalformed, "one spelling"},
		"a header with blanks":             {forge(`{"alg": "ES256","typ":"ampora-handover+jwt"}`, content, good), apitype.HandoverMalformed, "one spelling"},
		"the header of an array":           {forge(`["ES256"]`, content, good), apitype.HandoverMalformed, "compact JWS"},
		"the header null":                  {forge(`null`, content, good), apitype.HandoverMalformed, "compact JWS"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := handover.Open(bad.text, target.id, peers{source}, now)
			refused(t, err, bad.code, bad.detail)
			if o != nil {
				t.Error("it opened")
			}
		})
	}
	hint := forge(header("ES256", map[string]any{"kid": "../../x", "x5c": chain(other.issuer.cert)}), content, good)
	if _, err := handover.Open(hint, target.id, peers{source}, now); err != nil {
		t.Errorf("what a document says of keys is not looked at: %v", err)
	}
}

func TestAWeakKeySignsNothing(t *testing.T) {
	weak := must(rsa.GenerateKey(rand.Reader, 2048))
	if _, err := handover.Sign(weak, handover.TypeHandover, handover.Token{}); apitype.CodeOf(err) != apitype.KeyNotAllowed {
		t.Error(err)
	}
	source, target := newSideWith("eu", weak), newSide("us")
	text := forge(header("PS256", nil), string(must(json.Marshal(source.token(target)))), by(weak))
	_, err := handover.Open(text, target.id, peers{source}, now)
	refused(t, err, apitype.HandoverSignatureInvalid, "")
}

// needed are the claims without which there is no token.
var needed = []string{
	"iss", "aud", "sub", "jti", "iat", "nbf", "exp", "cnf", "cnf.x5t#S256", "agent", "agent.agent_id", "agent.certificate",
	"target", "target.name", "target.endpoint", "target.ca_bundle",
}

// optional are the others.
var optional = []string{
	"agent.display_name", "agent.instance_uid", "agent.description", "agent.capabilities", "agent.tenant", "agent.group",
	"agent.configuration", "agent.enrolled_at", "source", "source.endpoint", "prev", "audit",
}

func TestEveryClaimIsNeededAndHasItsType(t *testing.T) {
	source, target := newSide("eu"), newSide("us")
	key := by(source.issuer.key)
	open := func(content string) error {
		_, err := handover.Open(forge(header("ES256", nil), content, key), target.id, peers{source}, now)
		return err
	}
	full := func() members {
		claims := source.token(target)
		claims.Previous = strings.Repeat("a", 64)
		m := membersOf(claims)
		m["agent"].(map[string]any)["tenant"] = ""
		return m
	}
	if err := open(full().text()); err != nil {
		t.Fatal(err)
	}
	values := []any{float64(1.5), "text", true, []any{}, map[string]any{}, -1, "", nil, 1e300}
	for _, claim := range append(append([]string{}, needed...), optional...) {
		path := strings.Split(claim, ".")
		isNeeded := strings.Contains(" "+strings.Join(needed, " ")+" ", " "+claim+" ")
		t.Run(claim, func(t *testing.T) {
			m := full()
			in, last := m.at(path...)
			was, found := in[last]
			if !found {
				t.Fatal("no such claim")
			}
			change := func(says string, mayOpen bool) {
				t.Helper()
				err := open(m.text())
				if err == nil && mayOpen {
					return
				}
				// iss decides whose keys are tried, before its shape is looked at.
				if code := apitype.CodeOf(err); code != apitype.HandoverMalformed && !(claim == "iss" && code == apitype.PeerUnknown) && !(claim == "aud" && code == apitype.HandoverWrongAudience) {
					t.Errorf("%s: %v", says, err)
				}
			}
			delete(in, last)
			change("missing", !isNeeded)
			in[strings.ToUpper(last[:1])+last[1:]] = was // it is another claim, and says nothing
			change("in capitals", !isNeeded)
			delete(in, strings.ToUpper(last[:1])+last[1:])
			for _, value := range values {
				in[last] = value
				_, isText := was.(string)
				_, isObject := was.(map[string]any)
				fits := value == nil || value == "" && isText ||
					isText && value == "text" && last != "prev" || isObject && fmt.Sprint(value) == "map[]"
				change(fmt.Sprintf("%#v", value), fits && !isNeeded || claim == "target.name" && value == "text" || claim == "target.endpoint" && value == "text" || claim == "target.ca_bundle" && value == "text")
			}
			in[last] = was
			doubled := strings.Replace(m.text(), fmt.Sprintf("%q:", last), fmt.Sprintf("%q:%s,%q:", last, asJSON(was), last), 1)
			if claim == "source.endpoint" { // the first endpoint in the text is the target's, and doubled is doubled
				doubled = strings.Replace(m.text(), `"source":{`, `"source":{"endpoint":"a",`, 1)
			}
			refused(t, open(doubled), apitype.HandoverMalformed, "doubled")
			escaped := strings.Replace(m.text(), fmt.Sprintf("%q:", last), fmt.Sprintf(`"\u%04x%s":%s,%q:`, last[0], last[1:], asJSON(was), last), 1)
			refused(t, open(escaped), apitype.HandoverMalformed, "doubled")
		})
	}
	for name, content := range map[string]string{
		"nothing": "", "null": "null", "a text": `"a"`, "an array": "[]", "a number": "1", "an open object": "{", "two objects": full().text() + "{}", "something behind": full().text() + "x",
		"an array of it": "[" + full().text() + "]", "deep nesting": `{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}",
	} {
		if err := open(content); apitype.CodeOf(err) != apitype.HandoverMalformed && apitype.CodeOf(err) != apitype.PeerUnknown {
			t.Errorf("%s: %v", name, err)
		}
	}
	unknown := full()
	unknown["later"] = map[string]any{"a": 1}
	if err := open(unknown.text()); err != nil {
		t.Errorf("an unknown claim: %v", err)
	}
}

func asJSON(value any) string { return string(must(json.Marshal(value))) }

func TestClaimsOutOfBoundsAreRefused(t *testing.T) {
	source, target := newSide("eu"), newSide("us")
	other, _ := source.leaf(uuid.NewString(), "", nil)
	long := strings.Repeat("a", 100_000)
	for name, bad := range map[string]struct {
		change func(*handover.Token)
		detail string
	}{
		"a jti that is no UUID":          {func(c *handover.Token) { c.ID = "7" }, "jti"},
		"a jti in capitals":              {func(c *handover.Token) { c.ID = strings.ToUpper(uuid.NewString()[:35]) + "A" }, "jti"},
		"a jti in braces":                {func(c *handover.Token) { c.ID = "{" + c.ID + "}" }, "jti"},
		"a jti as a URN":                 {func(c *handover.Token) { c.ID = "urn:uuid:" + c.ID }, "jti"},
		"an agent that is no UUID":       {func(c *handover.Token) { c.Agent.AgentID = "../x" }, "agent.agent_id"},
		"a prev that is no hash":         {func(c *handover.Token) { c.Previous = "abc" }, "prev"},
		"a prev in capitals":             {func(c *handover.Token) { c.Previous = strings.Repeat("A", 64) }, "prev"},
		"a long name":                    {func(c *handover.Token) { c.Agent.DisplayName = long }, "display_name"},
		"a name that turns a line over":  {func(c *handover.Token) { c.Agent.DisplayName = "a\u202eb" }, "control"},
		"a name with a line break":       {func(c *handover.Token) { c.Agent.DisplayName = "a\nb" }, "control"},
		"a group with an escape":         {func(c *handover.Token) { c.Agent.Group = "\x1b[2J" }, "control"},
		"a long group":                   {func(c *handover.Token) { c.Agent.Group = long }, "agent.group"},
		"a long configuration":           {func(c *handover.Token) { c.Agent.Configuration = long }, "agent.configuration"},
		"a long tenant":                  {func(c *handover.Token) { c.Agent.Tenant = long }, "agent.tenant"},
		"a long description":             {func(c *handover.Token) { c.Agent.Description = long }, "agent.description"},
		"a long event":                   {func(c *handover.Token) { c.Audit = long }, "audit"},
		"a long endpoint":                {func(c *handover.Token) { c.Target.Endpoint = long }, "target.endpoint"},
		"a long bundle":                  {func(c *handover.Token) { c.Target.CABundle = long + long }, "target.ca_bundle"},
		"a long certificate":             {func(c *handover.Token) { c.Agent.Certificate = long }, "agent.certificate"},
		"a certificate that is none":     {func(c *handover.Token) { c.Agent.Certificate = "x" }, "agent.certificate"},
		"two certificates":               {func(c *handover.Token) { c.Agent.Certificate += c.Agent.Certificate }, "too many"},
		"a private key":                  {func(c *handover.Token) { c.Agent.Certificate = privateKeyPEM }, "private key"},
		"a certificate with text before": {func(c *handover.Token) { c.Agent.Certificate = "x" + c.Agent.Certificate }, "besides"},
		"a broken certificate":           {func(c *handover.Token) { c.Agent.Certificate = brokenPEM }, "does not parse"},
		"another agent's certificate":    {func(c *handover.Token) { c.Agent.Certificate = pemOf(other) }, "cnf"},
		"another agent's, and its cnf": {func(c *handover.Token) {
			c.Agent.Certificate, c.Confirmation.X5TS256 = pemOf(other), handover.Thumbprint(other)
		}, "same agent"},
		"another agent_id":                 {func(c *handover.Token) { c.Agent.AgentID = uuid.NewString() }, "same agent"},
		"another sub":                      {func(c *handover.Token) { c.Subject += "x" }, "same agent"},
		"another tenant":                   {func(c *handover.Token) { c.Agent.Tenant = "acme" }, "same agent"},
		"a fingerprint in hex":             {func(c *handover.Token) { c.Confirmation.X5TS256 = strings.Repeat("a", 64) }, "cnf"},
		"a fingerprint with padding":       {func(c *handover.Token) { c.Confirmation.X5TS256 += "=" }, "cnf"},
		"an end long ago":                  {func(c *handover.Token) { c.Expires = 1 }, "exp"},
		"an end before its beginning":      {func(c *handover.Token) { c.NotBefore = c.Expires }, "exp"},
		"two days":                         {func(c *handover.Token) { c.Expires = now.Add(48 * time.Hour).Unix() }, "exp"},
		"the end of time":                  {func(c *handover.Token) { c.Expires = math.MaxInt64 }, "exp"},
		"a time that overflows":            {func(c *handover.Token) { c.IssuedAt, c.Expires = math.MinInt64, math.MaxInt64 }, "iat"},
		"a time before all time":           {func(c *handover.Token) { c.NotBefore = -1 }, "nbf"},
		"made in the future":               {func(c *handover.Token) { shift(c, 10*time.Minute) }, "future"},
		"made in the far future":           {func(c *handover.Token) { shift(c, 100*365*24*time.Hour) }, "future"},
		"not good yet":                     {func(c *handover.Token) { c.NotBefore = now.Add(10 * time.Minute).Unix() }, "nbf"},
		"enrolled at a time that is none":  {func(c *handover.Token) { c.Agent.EnrolledAt = -5 }, "enrolled_at"},
		"lineage, and nothing in it named": {nil, "hang together"},
	} {
		t.Run(name, func(t *testing.T) {
			claims := source.token(target)
			text := ""
			if bad.change == nil {
				text = source.sign(claims) + "~" + source.sign(claims)
			} else {
				bad.change(&claims)
				text = source.sign(claims)
			}
			_, err := handover.Open(text, target.id, peers{source}, now)
			refused(t, err, apitype.HandoverMalformed, bad.detail)
		})
	}
}

// shift moves a token in time.
func shift(c *handover.Token, by time.Duration) {
	s := int64(by / time.Second)
	c.IssuedAt, c.NotBefore, c.Expires = c.IssuedAt+s, c.NotBefore+s, c.Expires+s
}

const (
	privateKeyPEM = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	brokenPEM     = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
)

func TestATokenIsGoodForItsTimeAndTheLeeway(t *testing.T) {
	source, target := newSide("eu"), newSide("us")
	text := source.sign(source.token(target))
	for at, code := range map[time.Duration]apitype.Code{
		// The leaf is valid from a minute before now: there is no leeway beyond that.
		0: "", -time.Minute: "", -handover.Leeway: apitype.CertificateExpired, -handover.Leeway - time.Second: apitype.HandoverMalformed,
		time.Hour + handover.Leeway: "", time.Hour + handover.Leeway + time.Second: apitype.HandoverExpired, 90 * 24 * time.Hour: apitype.HandoverExpired,
	} {
		_, err := handover.Open(text, target.id, peers{source}, now.Add(at))
		if apitype.CodeOf(err) != code {
			t.Errorf("after %s: %v", at, err)
		}
	}
}

func TestOnlyAnAgentsLeafOfThePeerItselfIsTaken(t *testing.T) {
	source, target, other := newSide("eu"), newSide("us"), newSide("eu")
	open := func(leaf *x509.Certificate, agentID string) error {
		_, err := handover.Open(source.sign(source.tokenFor(target, agentID, leaf)), target.id, peers{source}, now)
		return err
	}
	for name, bad := range map[string]struct {
		side    *side
		deviate func(*x509.Certificate)
		code    apitype.Code
	}{
		"of another CA":                {other, nil, apitype.HandoverSignatureInvalid},
		"expired":                      {source, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, apitype.CertificateExpired},
		"not valid yet":                {source, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }, apitype.CertificateExpired},
		"of a server":                  {source, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, apitype.HandoverMalformed},
		"of a CA":                      {source, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }, apitype.HandoverMalformed},
		"of another trust domain":      {source, func(c *x509.Certificate) { c.URIs[0] = identity.SPIFFEID("us.example", "", c.Subject.CommonName) }, apitype.HandoverMalformed},
		"that has a name besides":      {source, func(c *x509.Certificate) { c.DNSNames = []string{"eu.example"} }, apitype.HandoverMalformed},
		"with the serial of an edge's": {source, func(c *x509.Certificate) { c.SerialNumber = identity.RandomSerial(identity.KindEdge).Big() }, apitype.HandoverMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			id := uuid.NewString()
			leaf, _ := bad.side.leaf(id, "", bad.deviate)
			refused(t, open(leaf, id), bad.code, "")
		})
	}
	// Below an intermediate of a pinned issuer it is not the pinned key that has signed.
	id := uuid.NewString()
	middle := issuerBelow(source.issuer)
	leaf, _ := (&side{source.id, middle}).leaf(id, "", nil)
	refused(t, open(leaf, id), apitype.HandoverSignatureInvalid, "")
}

func TestEveryByteCounts(t *testing.T) {
	source, target := newSide("eu"), newSide("us")
	claims := source.token(target)
	claims.Target.CABundle = "x" // it is shorter, and here nobody reads it
	text := source.sign(claims)
	if _, err := handover.Open(text, target.id, peers{source}, now); err != nil {
		t.Fatal(err)
	}
	for i := range len(text) {
		for _, flip := range []byte{1, 0x20, 0x80} {
			bad := []byte(text)
			bad[i] ^= flip
			if o, err := handover.Open(string(bad), target.id, peers{source}, now); err == nil || o != nil {
				t.Fatalf("byte %d, %x: it opened", i, flip)
			} else if apitype.CodeOf(err) == "" {
				t.Fatalf("byte %d, %x: %v", i, flip, err)
			}
		}
		if _, err := handover.Open(text[:i], target.id, peers{source}, now); err == nil {
			t.Fatalf("cut off after %d bytes it opened", i)
		}
	}
	for _, more := range []string{"A", "=", ".", "~", "~~", "." + text, "~" + text, "A~", " x", "\x00"} {
		if _, err := handover.Open(text+more, target.id, peers{source}, now); err == nil {
			t.Errorf("with %.10q behind it opened", more)
		}
	}
}

func TestLongTextIsRefusedQuickly(t *testing.T) {
	source, target := newSide("eu"), newSide("us")
	one := source.sign(source.token(target))
	big := source.token(target)
	big.Agent.Description = strings.Repeat("a", 64<<10)
	for name, text := range map[string]string{
		"900 kB of a letter":     strings.Repeat("a", 900_000),
		"900 kB of tildes":       strings.Repeat("~", 900_000),
		"900 kB of dots":         strings.Repeat(".", 900_000),
		"900 kB of tokens":       strings.Repeat(one+"~", 900_000/len(one)),
		"50 tokens":              one + strings.Repeat("~"+one, 49),
		"17 tokens":              one + strings.Repeat("~"+one, 16),
		"one document of 500 kB": forge(header("ES256", map[string]any{"kid": strings.Repeat("a", 400_000)}), "{}", unsigned),
		"brackets":               forge(strings.Repeat("[", 200_000), "{}", unsigned),
	} {
		_, err := handover.Open(text, target.id, peers{source}, now)
		refused(t, err, apitype.HandoverMalformed, "")
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
	if o, err := handover.Open(source.sign(big), target.id, peers{source}, now); err != nil || len(o.Token.Agent.Description) != 64<<10 {
		t.Errorf("the longest description: %v", err)
	}
	big.Agent.Description = strings.Repeat("a", handover.MaxDocument)
	if _, err := handover.Sign(source.issuer.key, handover.TypeHandover, big); apitype.CodeOf(err) != apitype.BodyTooLarge {
		t.Errorf("a document that nobody takes: %v", err)
	}
}

func TestWhatPeoplePasteInsteadIsNamed(t *testing.T) {
	source, target := newSide("eu"), newSide("us")
	secret := token.New(token.Bootstrap).Reveal()
	for text, says := range map[string]string{
		secret:                                "this is a bootstrap token",
		token.New(token.PoolSecret).Reveal():  "this is a pool's admin secret",
		pemOf(source.issuer.cert):             "this is a PEM file",
		privateKeyPEM:                         "private key",
		`{"data":{"handover_token":"eyJ"}}`:   "take only handover_token",
		`{"peer_id":"eu","bundle_jws":"eyJ"}`: "bundle file",
		"":                                    "empty",
		" \n":                                 "empty",
	} {
		_, err := handover.Open(text, target.id, peers{source}, now)
		refused(t, err, apitype.HandoverMalformed, says)
		if strings.Contains(err.Error(), secret[8:20]) {
			t.Error("the secret is told")
		}
		err = handover.Verify(strings.TrimSpace(text), handover.TypeReceipt, nil, &handover.Receipt{})
		refused(t, err, apitype.HandoverMalformed, says)
	}
	// And the reverse.
	handed := source.sign(source.token(target))
	for _, text := range []string{handed, " " + handed + "\n", handed + "~" + handed} {
		for _, kind := range []token.Kind{token.Bootstrap, token.PoolSecret} {
			_, err := token.Parse(kind, text)
			refused(t, err, apitype.TokenMalformed, "this is a handover token")
		}
	}
	_, err := token.Parse(token.Bootstrap, must(handover.Sign(source.issuer.key, handover.TypeReceipt, handover.Receipt{})))
	refused(t, err, apitype.TokenMalformed, "this is a receipt")
	_, err = token.Parse(token.Bootstrap, base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))+".e30.")
	refused(t, err, apitype.TokenMalformed, "does not begin with")
}
