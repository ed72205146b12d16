package status

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	vault "github.com/hashicorp/vault/api"
)

// tokensShown is how many outstanding tokens are counted. Each is a row in the answer, and in Vault's audit log.
const tokensShown = 1000

const notAllowed = "the Vault token does not allow this"

// collect asks for every part. It fails when Vault does not answer, and when it shows nothing but what anybody may see.
func collect(ctx context.Context, engine *client.Client) (*report, error) {
	r := &report{Unavailable: map[string]string{}, broken: map[string]bool{}}
	var first error
	seen := false
	for _, part := range []struct {
		name string
		read func(context.Context, *client.Client) error
	}{
		{"issuers", r.readIssuers}, {"crls", r.readCRLs}, {"agents", r.readAgents}, {"tokens", r.readTokens}, {"edges", r.readEdges},
	} {
		err := part.read(ctx, engine)
		if first == nil {
			first = err
		}
		switch answer := (*vault.ResponseError)(nil); {
		case err == nil:
			seen = seen || part.name != "crls" // there may have been no issuer to ask for
		case !errors.As(err, &answer):
			return nil, err
		case answer.StatusCode == http.StatusForbidden:
			r.Unavailable[part.name] = notAllowed
			if part.name == "issuers" && r.Issuers != nil {
				r.Unavailable[part.name] += "; these are out of the trust bundle, which has neither drafts nor what is retired"
			}
		default:
			r.Unavailable[part.name], r.broken[part.name] = reason(err), true
		}
	}
	if !seen {
		return nil, first
	}
	return r, nil
}

// reason is what is wrong, in one line.
func reason(err error) string {
	var refusal *apitype.Error
	if errors.As(err, &refusal) {
		return refusal.Error()
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// readIssuers reads the issuers; where they may not be listed, those of the trust bundle, which anybody may read.
func (r *report) readIssuers(ctx context.Context, engine *client.Client) error {
	all, err := engine.Issuers(ctx)
	if err != nil {
		bundle, failed := engine.CABundle(ctx)
		if failed != nil {
			return err
		}
		r.Issuers = fromBundle(bundle)
		return err
	}
	r.Issuers = []*issuer{}
	for _, one := range all {
		i := &issuer{IssuerID: one.IssuerID, CommonName: one.CommonName, State: one.State}
		if one.Expiration > 0 {
			i.expires = time.Unix(one.Expiration, 0)
			i.Expires = rfc3339(one.Expiration)
		}
		r.Issuers = append(r.Issuers, i)
	}
	return nil
}

// fromBundle reads the issuers off the bundle: the active one stands first.
func fromBundle(bundle *apitype.CABundle) []*issuer {
	all := []*issuer{}
	for n, text := range bundle.Certificates {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		i := &issuer{CommonName: c.Subject.CommonName, State: stateTrusted, Expires: rfc3339(c.NotAfter.Unix()), expires: c.NotAfter}
		if n == 0 {
			i.State = stateActive
		}
		all = append(all, i)
	}
	return all
}

// readCRLs reads what is known of each issuer's newest list.
func (r *report) readCRLs(ctx context.Context, engine *client.Client) error {
	for _, i := range r.Issuers {
		if !i.counts() || i.IssuerID == "" && i.State != stateActive {
			continue
		}
		list, err := engine.CRL(ctx, apitype.CRLRequest{IssuerID: i.IssuerID}) // without an id: the active one's
		if err != nil {
			return err
		}
		i.CRL = &crl{
			Number: list.Number, Entries: list.Entries, ThisUpdate: rfc3339(list.ThisUpdate), NextUpdate: rfc3339(list.NextUpdate),
			nextUpdate: time.Unix(list.NextUpdate, 0),
		}
	}
	return nil
}

func (r *report) readAgents(ctx context.Context, engine *client.Client) (err error) {
	r.Agents, err = engine.AgentsSummary(ctx)
	return err
}

func (r *report) readTokens(ctx context.Context, engine *client.Client) error {
	list, err := engine.Tokens(ctx, apitype.Page{State: apitype.TokenStateIssued, Limit: tokensShown})
	if err != nil {
		return err
	}
	r.Tokens = &tokens{Outstanding: len(list.Keys), More: list.NextAfter != ""}
	return nil
}

func (r *report) readEdges(ctx context.Context, engine *client.Client) error {
	list, err := engine.Edges(ctx, apitype.Page{})
	if err != nil {
		return err
	}
	r.Edges = []*edge{}
	for _, key := range list.Keys {
		r.Edges = append(r.Edges, &edge{EdgeInfo: list.KeyInfo[key], key: key})
	}
	return nil
}

func rfc3339(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
