package enroll

import (
	"crypto/sha256"
	"net/netip"
	"strings"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
)

// Bounds of an idempotency key in characters.
const (
	minIdempotencyKey = 16
	maxIdempotencyKey = 128
)

// intake is a redemption request after every check that needs no state.
type intake struct {
	secret      token.Secret
	csr         *ca.CSR // nil with a key of our making
	source      netip.Addr
	instanceUID string
	idempotency []byte // hash, nil without a key
	request     apitype.RedeemRequest
}

// key is the one that the leaf will be for.
func (k *intake) key() (leafKey, error) {
	if k.csr == nil {
		return newKey()
	}
	return csrKey(k.csr), nil
}

func parseIntake(in apitype.RedeemRequest) (*intake, error) {
	secret, err := token.Parse(token.Bootstrap, in.Token)
	if err != nil {
		return nil, err
	}
	k := &intake{secret: secret, request: in}
	switch {
	case in.CSR == "" && !in.GenerateKey:
		return nil, apitype.Errorf(apitype.CSRRequired, "neither csr nor generate_key is given")
	case in.CSR != "" && in.GenerateKey:
		return nil, apitype.Errorf(apitype.FieldInvalid, "csr and generate_key exclude each other")
	case in.CSR != "":
		if k.csr, err = ca.ParseCSR(in.CSR); err != nil {
			return nil, err
		}
	}
	if k.source, err = parseSource(in.SourceIP); err != nil {
		return nil, err
	}
	if in.InstanceUID != "" {
		u, err := uuid.Parse(in.InstanceUID)
		if err != nil {
			return nil, apitype.Errorf(apitype.FieldInvalid, "instance_uid is no UUID")
		}
		k.instanceUID = u.String()
	}
	if err := name.Text("display_name", in.DisplayName, name.MaxLabel); err != nil {
		return nil, err
	}
	if len(in.Description) > name.MaxDescription {
		return nil, apitype.Errorf(apitype.FieldInvalid, "description is longer than %d bytes", name.MaxDescription)
	}
	if in.Capabilities != 0 && in.Capabilities&apitype.CapabilityAcceptsOpAMP == 0 {
		return nil, apitype.Errorf(apitype.CapabilityMissing, "the agent does not accept connection settings")
	}
	if k.idempotency, err = hashIdempotencyKey(in.IdempotencyKey); err != nil {
		return nil, err
	}
	return k, nil
}

// hashIdempotencyKey checks a request's idempotency key and answers its hash, nil without one.
func hashIdempotencyKey(key string) ([]byte, error) {
	if key == "" {
		return nil, nil
	}
	if n := len(key); n < minIdempotencyKey || n > maxIdempotencyKey || strings.ContainsFunc(key, func(r rune) bool { return r < '!' || r > '~' }) {
		return nil, apitype.Errorf(apitype.FieldInvalid, "idempotency_key must have %d to %d printable ASCII characters", minIdempotencyKey, maxIdempotencyKey)
	}
	sum := sha256.Sum256([]byte(key))
	return sum[:], nil
}
