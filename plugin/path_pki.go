package ampora

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/revocation"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// publicPKI is the paths that need no Vault token, as Vault writes them: + is one segment, a last * anything.
var publicPKI = []string{"ocsp/*", "crl", "crl/pem", "issuer/+/crl", "issuer/+/crl/pem"}

const (
	crlType  = "application/pkix-crl"      // RFC 2585 section 4.2
	ocspType = "application/ocsp-response" // RFC 6960 appendix A.2
	crlBlock = "X509 CRL"                  // RFC 7468 section 6
)

func (b *backend) pathsPKI() []*framework.Path {
	id := map[string]*framework.FieldSchema{"issuer_id": {Type: framework.TypeString, Description: "Id of the issuer."}}
	file := func(suffix, pattern, summary, media string, fields map[string]*framework.FieldSchema, encode func([]byte) []byte) *framework.Path {
		return &framework.Path{
			Pattern:      pattern,
			DisplayAttrs: display(suffix),
			Fields:       fields,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: forwarded(b.handle(b.publicCRL(media, encode)), summary, raw(media), ""),
			},
			HelpSynopsis:    summary,
			HelpDescription: "Only while public_pki is on, and then without a Vault token. The answer is the file itself.",
		}
	}
	asIs := func(der []byte) []byte { return der }
	return []*framework.Path{
		{
			Pattern:      "edge/ocsp$",
			DisplayAttrs: display("edge-ocsp-answer"),
			Fields: map[string]*framework.FieldSchema{
				"request": {Type: framework.TypeString, Description: "The OCSP request: base64 of its DER."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.edgeOCSP), "Answer an OCSP request.", responses("The OCSP response.", apitype.OCSPResponse{}), "make"),
			},
			HelpSynopsis:    "Answer an OCSP request, for an edge to pass on.",
			HelpDescription: "What cannot be answered gets an OCSP response as well: malformed, unauthorized or try_later, which is not signed.",
		},
		{
			Pattern:      "edge/crl$",
			DisplayAttrs: display("edge-crl"),
			Fields: map[string]*framework.FieldSchema{
				"issuer_id": {Type: framework.TypeString, Description: "Id of the issuer. Default: the active one."},
				"number":    {Type: framework.TypeString, Description: "Number of the list that is there already: if that is the newest, crl is left out."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.edgeCRL), "Get an issuer's list of revoked certificates.", responses("The list.", apitype.CRL{}), "get"),
			},
			HelpSynopsis:    "Get an issuer's list of revoked certificates, for an edge to serve.",
			HelpDescription: "The list that is there is answered at once; one that names the newest revocations follows within seconds. 503 while the set of revoked certificates is being read.",
		},
		{
			// The text may have any characters of base64, and '/' is one of them.
			Pattern:      "ocsp/(?P<request>.+)$",
			DisplayAttrs: display("ocsp-response"),
			Fields: map[string]*framework.FieldSchema{
				"request": {Type: framework.TypeString, Description: "The OCSP request: base64 of its DER, URL-escaped."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: forwarded(b.handle(b.publicOCSP), "Answer an OCSP request.", raw(ocspType), ""),
			},
			HelpSynopsis: "Answer an OCSP request that was sent with GET (RFC 6960, appendix A.1).",
			HelpDescription: `Only while public_pki is on, and then without a Vault token. A request with POST is answered by the edges alone, and so
is one whose base64 has two '/' in a row, unless they are escaped (%2F%2F): Vault would redirect it.`,
		},
		file("crl", "crl$", "Read the active issuer's list of revoked certificates.", crlType, nil, asIs),
		file("crl-pem", "crl/pem$", "Read the active issuer's list of revoked certificates, as PEM.", pemType, nil, encodeCRL),
		file("issuer-crl", "issuer/"+segment("issuer_id")+"/crl$", "Read an issuer's list of revoked certificates.", crlType, id, asIs),
		file("issuer-crl-pem", "issuer/"+segment("issuer_id")+"/crl/pem$", "Read an issuer's list of revoked certificates, as PEM.", pemType, id, encodeCRL),
	}
}

// raw is the schema of an answer that is a file.
func raw(media string) map[int][]framework.Response {
	return map[int][]framework.Response{http.StatusOK: {{Description: "The file.", MediaType: media}}}
}

// body is an answer that is a file, which caches may keep until then; the zero time is never.
func (b *backend) body(media string, data []byte, until time.Time) *logical.Response {
	return &logical.Response{Data: map[string]any{
		logical.HTTPStatusCode: http.StatusOK, logical.HTTPContentType: media, logical.HTTPRawBody: data,
		logical.HTTPCacheControlHeader: cacheControl(until.Sub(b.enroll.Now())),
	}}
}

// cacheControl is for something that is good for so long (RFC 5019 section 6.2). Caches keep it for half of that, so that
// whoever gets it from them can still use it for a while.
func cacheControl(left time.Duration) string {
	if left <= 0 {
		return "no-store"
	}
	return fmt.Sprintf("max-age=%d, public, no-transform, must-revalidate", int64(left.Seconds()/2))
}

func encodeCRL(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: crlBlock, Bytes: der}) }

// checkPublic refuses what is served here only while public_pki is on.
func (b *backend) checkPublic(ctx context.Context) error {
	cfg, err := b.settings.Get(ctx)
	if err == nil && !cfg.PublicPKI {
		err = apitype.Errorf(apitype.NotConfigured, "public_pki is off, so that only the edges serve CRL and OCSP, below /pki/")
	}
	return err
}

// crl is the list of an issuer, or of the active one.
func (b *backend) crl(ctx context.Context, issuerID string) (string, revocation.Signed, error) {
	if issuerID == "" {
		set, err := b.authority.Set(ctx)
		if err != nil {
			return "", revocation.Signed{}, err
		}
		active, err := set.Active()
		if err != nil {
			return "", revocation.Signed{}, err
		}
		issuerID = active.ID
	}
	signed, err := b.lists.CRL(ctx, issuerID)
	return issuerID, signed, err
}

func (b *backend) publicCRL(media string, encode func([]byte) []byte) handler {
	return func(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
		if err := b.checkPublic(ctx); err != nil {
			return nil, err
		}
		var id string
		if _, named := data.Schema["issuer_id"]; named {
			id = data.Get("issuer_id").(string)
		}
		_, signed, err := b.crl(ctx, id)
		if err != nil {
			return nil, err
		}
		return b.body(media, encode(signed.DER), signed.NextUpdate), nil
	}
}

func (b *backend) edgeCRL(ctx context.Context, _ call, in apitype.CRLRequest) (apitype.CRL, error) {
	id, signed, err := b.crl(ctx, in.IssuerID)
	if err != nil {
		return apitype.CRL{}, err
	}
	out := apitype.CRL{
		IssuerID: id, Number: signed.Number.String(), Entries: signed.Entries, ThisUpdate: signed.ThisUpdate.Unix(), NextUpdate: signed.NextUpdate.Unix(),
	}
	if in.Number != out.Number {
		out.CRL = base64.StdEncoding.EncodeToString(signed.DER)
	}
	return out, nil
}

func (b *backend) publicOCSP(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	if err := b.checkPublic(ctx); err != nil {
		return nil, err
	}
	a := b.ocsp.Answer(ctx, requestDER(data.Get("request").(string)))
	return b.body(ocspType, a.DER, a.NextUpdate), nil
}

func (b *backend) edgeOCSP(ctx context.Context, _ call, in apitype.OCSPRequest) (apitype.OCSPResponse, error) {
	a := b.ocsp.Answer(ctx, requestDER(in.Request))
	out := apitype.OCSPResponse{Response: base64.StdEncoding.EncodeToString(a.DER), Status: a.Status}
	if !a.NextUpdate.IsZero() {
		out.ThisUpdate, out.NextUpdate = a.ThisUpdate.Unix(), a.NextUpdate.Unix()
	}
	return out, nil
}

// requestDER decodes base64, also without the padding that some clients leave out of a path. What is none, or too long to be
// looked at, is nothing, and so malformed.
func requestDER(text string) []byte {
	if len(text) > base64.StdEncoding.EncodedLen(revocation.MaxRequest) {
		return nil
	}
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil
	}
	return der
}

// issuer is one issuer with its key.
func (b *backend) issuer(ctx context.Context, id string) (*ca.Issuer, error) {
	set, err := b.authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	return set.Issuer(id)
}

// signers are the issuers that have a certificate.
func (b *backend) signers(ctx context.Context) ([]*ca.Issuer, error) {
	set, err := b.authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	return set.Signers(), nil
}

// crlExpiry is how long lists and OCSP answers are good for.
func (b *backend) crlExpiry(ctx context.Context) (time.Duration, error) {
	cfg, err := b.settings.Get(ctx)
	return time.Duration(cfg.CRLExpiry) * time.Second, err
}

// pkiFailed tells what went wrong where nobody is told of it in an answer.
func (b *backend) pkiFailed(what string, err error) {
	b.Logger().Error(what+" failed", "error", err)
}
