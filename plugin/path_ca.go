package ampora

import (
	"context"
	"net/http"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsCA() []*framework.Path {
	key := map[string]*framework.FieldSchema{
		"common_name": {Type: framework.TypeString, Description: "Common name of the issuer. Default: Ampora CA and a short id."},
		"key_type":    {Type: framework.TypeString, Description: "ec (default), ed25519 or rsa."},
		"key_bits":    {Type: framework.TypeInt, Description: "ec: 256 (default) or 384; rsa: 3072 (default) or 4096."},
	}
	id := map[string]*framework.FieldSchema{
		"issuer_id": {Type: framework.TypeString, Description: "Id of the issuer."},
	}
	return []*framework.Path{
		{
			Pattern:      "ca/root$",
			DisplayAttrs: display("root-issuer"),
			Fields:       with(key, map[string]*framework.FieldSchema{"ttl": {Type: framework.TypeDurationSecond, Description: "Lifetime; 10 years by default."}}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(b.handle(b.caRoot), "Make a self-signed issuer.", responses("The issuer.", apitype.CAIssuer{}), "generate"),
			},
			HelpSynopsis:    "Make a self-signed issuer, for development and small installations.",
			HelpDescription: "The first issuer of a mount is active at once, a later one waits as a draft. The key never leaves Vault.",
		},
		{
			Pattern:      "ca/intermediate$",
			DisplayAttrs: display("intermediate-issuer"),
			Fields:       key,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(b.handle(b.caIntermediate), "Make a key and a CSR for it.", responses("The CSR.", apitype.CAIntermediateResponse{}), "generate"),
			},
			HelpSynopsis:    "Make a key and a CSR, to be signed by Vault's pki engine or any CA.",
			HelpDescription: "Bring the certificate back with ca/intermediate/set-signed. The key never leaves Vault.",
		},
		{
			Pattern:      "ca/intermediate/set-signed$",
			DisplayAttrs: display("signed-intermediate-issuer"),
			Fields: map[string]*framework.FieldSchema{
				"certificate": {Type: framework.TypeString, Description: "PEM: the issuer's certificate, then its parents up to the root."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(b.handle(b.caSetSigned), "Bring the signed certificate back.", responses("The issuer.", apitype.CAIssuer{}), "set"),
			},
			HelpSynopsis:    "Bring the certificate back that was signed for the CSR of ca/intermediate.",
			HelpDescription: "The chain is checked: the key fits, it is a CA that may sign, nothing has expired, and it ends in its root.",
		},
		{
			Pattern:      "ca/issuers/?$",
			DisplayAttrs: display("issuers"),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: forwarded(b.handle(b.listIssuers), "List issuers.", responses("Ids, with key_info for each.", apitype.ListResponse[apitype.CAIssuer]{}), ""),
			},
			HelpSynopsis:    "List the issuers.",
			HelpDescription: "States: draft (waits), active (signs), trusted (its certificates count), retired.",
		},
		{
			Pattern:      "ca/issuers/" + segment("issuer_id") + "$",
			DisplayAttrs: display("issuer"),
			Fields: with(id, map[string]*framework.FieldSchema{
				"state": {Type: framework.TypeString, Description: "active: sign with this one from now on. retired: trust it no more, for good."},
				"force": {Type: framework.TypeBool, Description: "Retire it although certificates of it are still good: their agents are locked out."},
			}),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation:   forwarded(b.handle(b.readIssuer), "Read an issuer.", responses("The issuer.", apitype.CAIssuer{}), ""),
				logical.UpdateOperation: forwarded(b.handle(b.writeIssuer), "Activate or retire an issuer.", responses("The issuer.", apitype.CAIssuer{}), "change"),
			},
			HelpSynopsis: "Read an issuer, make it the one that signs, or retire it.",
			HelpDescription: `With state=active the issuer signs from now on, and the one that did so far stays trusted. With state=retired it leaves the
bundle for good; while certificates of it are still good that needs force=true, and ends their agents' sessions.`,
		},
		{
			Pattern:      "ca/bundle$",
			DisplayAttrs: display("ca-bundle"),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{Callback: b.handle(b.caBundle), Summary: "Read the trust bundle.", Responses: responses("The bundle.", apitype.CABundle{})},
			},
			HelpSynopsis:    "Read what agents and edges must trust.",
			HelpDescription: "The active issuer first, then the trusted ones. No Vault token is needed.",
		},
		{
			Pattern:      "ca/bundle/pem$",
			DisplayAttrs: display("ca-bundle-pem"),
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{Callback: b.handle(b.caBundlePEM), Summary: "Read the trust bundle as one PEM file.", Responses: map[int][]framework.Response{http.StatusOK: {{Description: "PEM", MediaType: pemType}}}},
			},
			HelpSynopsis:    "Read what agents and edges must trust, as one PEM file.",
			HelpDescription: "For curl: no Vault token is needed, and the answer is the file itself.",
		},
	}
}

const pemType = "application/x-pem-file"

// changeCA runs a change of issuers, tells the edges, and keeps the configuration still meanwhile.
func (b *backend) changeCA(ctx context.Context, change func() (*logical.Response, error)) (*logical.Response, error) {
	b.admin.Lock()
	defer b.admin.Unlock()
	cfg, err := b.settings.Get(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.TrustDomain == "" {
		return nil, apitype.Errorf(apitype.NotConfigured, "trust_domain is not set")
	}
	resp, err := change()
	b.feed.IssuersChanged()
	return resp, err
}

func (b *backend) caRoot(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	in, err := decode[apitype.CARootRequest](data)
	if err != nil {
		return nil, err
	}
	return b.changeCA(ctx, func() (*logical.Response, error) { return answer(b.authority.NewRoot(ctx, origin(req), in)) })
}

func (b *backend) caIntermediate(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	in, err := decode[apitype.CARootRequest](data)
	if err != nil {
		return nil, err
	}
	return b.changeCA(ctx, func() (*logical.Response, error) { return answer(b.authority.NewIntermediate(ctx, origin(req), in)) })
}

func (b *backend) caSetSigned(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	in, err := decode[apitype.CASetSignedRequest](data)
	if err != nil {
		return nil, err
	}
	return b.changeCA(ctx, func() (*logical.Response, error) { return answer(b.authority.SetSigned(ctx, origin(req), in)) })
}

func (b *backend) listIssuers(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	set, err := b.authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	out := apitype.ListResponse[apitype.CAIssuer]{Keys: []string{}, KeyInfo: map[string]apitype.CAIssuer{}}
	for _, i := range set.Describe() {
		out.Keys = append(out.Keys, i.IssuerID)
		out.KeyInfo[i.IssuerID] = i
	}
	return encode(out)
}

func (b *backend) readIssuer(ctx context.Context, _ *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	set, err := b.authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	return answer(set.Get(data.Get("issuer_id").(string)))
}

func (b *backend) writeIssuer(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	in, err := decode[apitype.IssuerRequest](data)
	if err != nil {
		return nil, err
	}
	id := data.Get("issuer_id").(string)
	switch {
	case in.State == authority.Retired:
		return b.changeCA(ctx, func() (*logical.Response, error) {
			return answer(b.authority.Retire(ctx, origin(req), id, in.Force, b.enroll.LiveLeaves))
		})
	case in.State != authority.Active:
		return nil, apitype.Errorf(apitype.FieldInvalid, "state must be active or retired")
	case in.Force:
		return nil, apitype.Errorf(apitype.FieldInvalid, "force is for state=retired")
	}
	return b.changeCA(ctx, func() (*logical.Response, error) { return answer(b.authority.Activate(ctx, origin(req), id)) })
}

func (b *backend) caBundle(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	set, err := b.authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	return encode(set.Bundle())
}

func (b *backend) caBundlePEM(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	set, err := b.authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		logical.HTTPStatusCode: http.StatusOK, logical.HTTPContentType: pemType, logical.HTTPRawBody: []byte(set.Bundle().Bundle),
	}}, nil
}

// syncIssuers is the issuers as edges take them.
func (b *backend) syncIssuers(ctx context.Context) ([]apitype.SyncIssuer, error) {
	set, err := b.authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	all := []apitype.SyncIssuer{}
	for _, i := range set.Anchors() {
		all = append(all, apitype.SyncIssuer{IssuerID: i.ID, State: i.State, Certificate: ca.EncodeCertificate(i.Certificate.Raw)})
	}
	return all, nil
}
