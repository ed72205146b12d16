package enroll

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/cmd/ampora/internal/opampconn"
	"github.com/ampora/ampora/plugin/apitype"
)

// failed tells what a failed exchange means for the token, and leaves nothing behind unless the key may still be needed.
func (x *exchange) failed(err error) error {
	if r, refused := isRefusal(err); refused && !r.Passing() {
		if x.again && codeOf(err) == apitype.TokenRedeemed {
			err = hint.Wrap(err, fmt.Sprintf(
				"this token was most likely spent by a request whose answer was lost; it has made agent %s, whose key is of no use: "+
					"remove it with 'vault delete ampora/agents/%s' and issue a fresh token (config.retry_window lets a token ask again)",
				x.secret.AgentID(), x.secret.AgentID()))
		}
		if r.Err == nil {
			err = hint.Wrap(err, noEdge)
		}
		return errors.Join(err, x.dir.Drop())
	}
	if !x.again {
		return hint.Wrap(errors.Join(err, x.dir.Drop()), append([]string{"the token was not used"}, advice(err)...)...)
	}
	return hint.Wrap(fmt.Errorf("the edge gave no answer, so it is not known whether the token is spent: %w", err),
		fmt.Sprintf("the key is kept in %s; run the same command again with the same token: if that says token_redeemed, use a fresh one", x.dir.Path()))
}

// noEdge is what to look at when it was no edge of ours that refused.
const noEdge = "is this the address of an edge of Ampora? It ends in /v1/opamp, and no proxy in between may end TLS or drop the Authorization header"

// advice is what to do about an edge that cannot be reached.
func advice(err error) []string {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		return []string{"give the CA that signed the edge's certificate with --ca-file: 'vault read -field=bundle ampora/ca/bundle > ca.pem', or the --tls-ca of the edge"}
	case errors.As(err, &hostname):
		return []string{"use a name that stands in the edge's certificate, or give the edge that name with --advertise or --san"}
	case errors.As(err, &invalid):
		return []string{"the edge's certificate is not valid now; compare the clocks of both machines"}
	case strings.Contains(err.Error(), "first record does not look like a TLS handshake"):
		return []string{"something without TLS answers there; is it the port of the edge's --listen, 4320 by default?"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return []string{"try again, or give more time with --timeout"}
	}
	var unreachable *opampconn.Unreachable
	if errors.As(err, &unreachable) {
		return []string{"check the address, and that the edge runs: its /readyz says more"}
	}
	return nil
}

// reason is a refusal in a word.
func reason(r *opampconn.Refusal) string {
	if r.Err != nil {
		return string(r.Err.Code)
	}
	return fmt.Sprintf("HTTP %d", r.Status)
}
