package handover_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"slices"
)

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// forge makes a JWS of any header and content, with the signature that sign makes of both.
func forge(header, payload string, sign func(input []byte) []byte) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(sign([]byte(input)))
}

// by signs as RFC 7518 section 3.4 and 3.5 and RFC 8037 say.
func by(key crypto.Signer) func([]byte) []byte {
	return func(input []byte) []byte {
		switch key := key.(type) {
		case ed25519.PrivateKey:
			return ed25519.Sign(key, input)
		case *rsa.PrivateKey:
			sum := sha256.Sum256(input)
			return must(rsa.SignPSS(rand.Reader, key, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		case *ecdsa.PrivateKey:
			sum := sha256.Sum256(input)
			digest := sum[:]
			if key.Curve.Params().BitSize == 384 {
				long := sha512.Sum384(input)
				digest = long[:]
			}
			r, s, err := ecdsa.Sign(rand.Reader, key, digest)
			if err != nil {
				panic(err)
			}
			size := key.Curve.Params().BitSize / 8
			return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		}
		panic("no such key")
	}
}

// pkcs1 signs as RS256 does, which no document may.
func pkcs1(key *rsa.PrivateKey) func([]byte) []byte {
	return func(input []byte) []byte {
		sum := sha256.Sum256(input)
		return must(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:]))
	}
}

func hs256(secret []byte) func([]byte) []byte {
	return func(input []byte) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write(input)
		return mac.Sum(nil)
	}
}

func unsigned([]byte) []byte { return nil }

// header is that of a handover token, with more members. They are in the order of a good one.
func header(alg string, more map[string]any) string {
	all := map[string]any{"alg": alg, "typ": "ampora-handover+jwt"}
	for name, value := range more {
		all[name] = value
	}
	return string(must(json.Marshal(all)))
}

// members are the claims of a token one by one, for changing them.
type members map[string]any

func membersOf(claims any) members {
	var all members
	if err := json.Unmarshal(must(json.Marshal(claims)), &all); err != nil {
		panic(err)
	}
	return all
}

// at answers the object that holds the last part of a path like "agent.tenant", and that part.
func (m members) at(path ...string) (members, string) {
	for ; len(path) > 1; path = path[1:] {
		m = m[path[0]].(map[string]any)
	}
	return m, path[0]
}

func (m members) text() string { return string(must(json.Marshal(m))) }

// chain is x5c of certificates.
func chain(certs ...*x509.Certificate) []string {
	var all []string
	for _, cert := range certs {
		all = append(all, base64.StdEncoding.EncodeToString(cert.Raw))
	}
	return all
}

func repeat[T any](value T, n int) []T { return slices.Repeat([]T{value}, n) }
