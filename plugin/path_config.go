package ampora

import (
	"context"
	"sort"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsConfig() []*framework.Path {
	text := func(d string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeString, Description: d}
	}
	span := func(d string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeDurationSecond, Description: d}
	}
	many := func(d string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeCommaStringSlice, Description: d}
	}
	return []*framework.Path{{
		Pattern:      "config/after-restore$",
		DisplayAttrs: display("after-restore"),
		Fields:       reasonFields,
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: forwarded(serve(b, b.afterRestore), "End what a backup of Vault has brought back to life.",
				responses("The restore count.", apitype.RestoreResponse{}), "run"),
		},
		HelpSynopsis: "Run this once after Vault was restored from a backup.",
		HelpDescription: `A backup knows tokens as outstanding that were redeemed or revoked after it was made. This ends every outstanding token and
every pool's admin secret, and makes sure that no serial number is given twice. Issue tokens and rotate the pools' secrets afterwards.

Vault answers a restore before it has begun it: wait until what was stored after the backup is gone. The same backup may be
restored again: then run this until restore_count is higher than it has ever been.`,
	}, {
		Pattern:      "config$",
		DisplayAttrs: display("configuration"),
		Fields: map[string]*framework.FieldSchema{
			"peer_id":                 text("Name of this installation among its federation peers. Fixed once an issuer exists."),
			"trust_domain":            text("SPIFFE trust domain of the agents' identities. Fixed once an issuer exists."),
			"endpoint":                text("wss URL that agents use, like wss://edge.example.com:4320/v1/opamp."),
			"endpoint_ca_bundle":      text("PEM roots of the edges' server certificates, when they are not from here."),
			"federation_url":          text("https URL that peers reach the edges' /federation at."),
			"token_ttl":               span("Lifetime of a bootstrap token when none is asked for."),
			"token_min_ttl":           span("Shortest lifetime of a bootstrap token."),
			"token_max_ttl":           span("Longest lifetime of a bootstrap token."),
			"leaf_ttl":                span("Lifetime of an agent's certificate."),
			"leaf_max_ttl":            span("Longest lifetime of an agent's certificate."),
			"tenancy":                 text("off, or hard: every token, pool, agent, group and configuration belongs to a tenant. Never back."),
			"key_origin":              text("Who may make agents' keys: any, csr (agents only) or server."),
			"retry_window":            span("How long a redeemed token may ask again with the same CSR key. 0: never."),
			"renew_proof":             text("key: a renewal proves the current key. edge: an edge's word is enough, which a taken-over edge can misuse."),
			"crl_expiry":              span("Time from a CRL's making to its nextUpdate."),
			"public_pki":              {Type: framework.TypeBool, Description: "Serve crl and ocsp here without a Vault token."},
			"crl_distribution_points": many("URLs of the CRL that go into certificates. '{issuer_id}' in them becomes the id of whoever signs."),
			"ocsp_servers":            many("URLs of the OCSP responder that go into certificates."),
			"heartbeat_interval":      span("Interval of agents' heartbeats."),
			"edge_allowed_domains":    many("Domains, besides the endpoint's host, that edges may get certificates for."),
			"handover_ttl":            span("Lifetime of a handover token when none is asked for."),
			"handover_max_ttl":        span("Longest lifetime of a handover token."),
			"audit_retention":         span("How long audit events are kept."),
			"agent_retention":         span("How long an agent's row is kept after its last certificate expired."),
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   forwarded(b.handle(b.readConfig), "Read the configuration.", responses("The configuration.", apitype.Config{}), ""),
			logical.UpdateOperation: forwarded(b.handle(b.writeConfig), "Change the fields that are given.", responses("The configuration.", apitype.Config{}), "configure"),
		},
		HelpSynopsis: "Read or change the mount's configuration.",
		HelpDescription: `A write changes only the fields that are given. peer_id and trust_domain are fixed once an issuer exists. tenancy can
be made hard when nothing is left that belongs to no tenant, and then stays so.`,
	}}
}

func (b *backend) readConfig(ctx context.Context, _ *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	return answer(b.settings.Get(ctx))
}

func (b *backend) writeConfig(ctx context.Context, req *logical.Request, data *framework.FieldData) (*logical.Response, error) {
	b.admin.Lock()
	defer b.admin.Unlock()
	set, err := b.authority.Set(ctx)
	if err != nil {
		return nil, err
	}
	if data.Get("tenancy").(string) == settings.TenancyHard {
		end, err := b.harden(ctx)
		if err != nil {
			return nil, err
		}
		defer end()
	}
	if id := data.Get("peer_id").(string); id != "" {
		if err := b.peers.FreeID(ctx, id); err != nil {
			return nil, err
		}
	}
	cfg, err := b.settings.Update(ctx, origin(req), !set.Empty(), func(c *apitype.Config) []string { return applyConfig(c, data) })
	if err == nil || apitype.CodeOf(err) == apitype.OutcomeUnknown {
		b.feed.SettingsChanged()
		b.lists.SettingsChanged()
	}
	return answer(cfg, err)
}

func (b *backend) afterRestore(ctx context.Context, c call, in apitype.RevokeRequest) (apitype.RestoreResponse, error) {
	b.admin.Lock()
	defer b.admin.Unlock()
	b.forget()                     // it may be older than the restore
	defer b.feed.SettingsChanged() // edges are to know how often that has happened
	return b.epoch.AfterRestore(ctx, c.origin, in.Reason)
}

// applyConfig changes the fields that were given and names them.
func applyConfig(c *apitype.Config, data *framework.FieldData) []string {
	texts := map[string]*string{
		"peer_id": &c.PeerID, "trust_domain": &c.TrustDomain, "endpoint": &c.Endpoint, "endpoint_ca_bundle": &c.EndpointCABundle,
		"federation_url": &c.FederationURL, "tenancy": &c.Tenancy, "key_origin": &c.KeyOrigin, "renew_proof": &c.RenewProof,
	}
	spans := map[string]*int64{
		"token_ttl": &c.TokenTTL, "token_min_ttl": &c.TokenMinTTL, "token_max_ttl": &c.TokenMaxTTL, "leaf_ttl": &c.LeafTTL,
		"leaf_max_ttl": &c.LeafMaxTTL, "retry_window": &c.RetryWindow, "heartbeat_interval": &c.HeartbeatInterval, "crl_expiry": &c.CRLExpiry,
		"handover_ttl": &c.HandoverTTL, "handover_max_ttl": &c.HandoverMaxTTL,
		"audit_retention": &c.AuditRetention, "agent_retention": &c.AgentRetention,
	}
	lists := map[string]*[]string{
		"crl_distribution_points": &c.CRLDistributionPoints, "ocsp_servers": &c.OCSPServers, "edge_allowed_domains": &c.EdgeAllowedDomains,
	}
	flags := map[string]*bool{"public_pki": &c.PublicPKI}
	var given []string
	for field := range data.Schema {
		value, ok := data.GetOk(field)
		if !ok {
			continue
		}
		given = append(given, field)
		switch v := value.(type) {
		case string:
			*texts[field] = v
		case int:
			*spans[field] = int64(v)
		case bool:
			*flags[field] = v
		case []string:
			*lists[field] = v
		}
	}
	sort.Strings(given)
	return given
}
