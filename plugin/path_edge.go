package ampora

import (
	"context"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/ca"
	"github.com/ampora/ampora/plugin/internal/name"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *backend) pathsEdge() []*framework.Path {
	paths := []*framework.Path{
		{
			Pattern:      "edge/sync$",
			DisplayAttrs: display("edge-feed"),
			Fields: map[string]*framework.FieldSchema{
				"since": {Type: framework.TypeString, Query: true, Description: "Revision that the last answer had; empty for a full snapshot."},
				"wait":  {Type: framework.TypeDurationSecond, Query: true, Description: "How long to wait for a change, 3 seconds at most."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: forwarded(serve(b, b.edgeSync), "Poll the change feed.", responses("A snapshot, or what changed.", apitype.SyncResponse{}), ""),
			},
			HelpSynopsis:    "Poll what edges decide by: issuers, revoked agents, settings.",
			HelpDescription: "Answers at once on a change since the revision, else after 'wait'. 503 while the set of revoked agents is being read.",
		},
		{
			Pattern:      "edge/certificate$",
			DisplayAttrs: display("edge-certificate"),
			Fields: map[string]*framework.FieldSchema{
				"csr":       {Type: framework.TypeString, Description: "PEM certificate request for the edge's key. Only the key is taken from it."},
				"dns_names": {Type: framework.TypeCommaStringSlice, Description: "Names. Default: the host of config.endpoint."},
				"ip_sans":   {Type: framework.TypeCommaStringSlice, Description: "Addresses."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: forwarded(serve(b, b.edgeCertificate), "Sign an edge's server certificate.", responses("The certificate.", apitype.EdgeCertificate{}), "sign"),
			},
			HelpSynopsis:    "Sign a server certificate for an edge.",
			HelpDescription: "serverAuth only, 7 days, for names within config.endpoint's host and config.edge_allowed_domains. The issuer that has been trusted for longest signs it, because every agent knows that one.",
		},
	}
	return append(paths, scoped(&framework.Path{
		Pattern:      "edge/report$",
		DisplayAttrs: display("edge"),
		Fields: map[string]*framework.FieldSchema{
			"name":       {Type: framework.TypeString, Description: "Name of the edge."},
			"version":    {Type: framework.TypeString, Description: "Its version."},
			"revision":   {Type: framework.TypeString, Description: "Revision of the snapshot that it decides by."},
			"live":       {Type: framework.TypeInt, Description: "Sessions open now."},
			"leaving":    {Type: framework.TypeBool, Description: "The edge goes down: it is forgotten."},
			"sessions":   {Type: framework.TypeSlice, Description: "Sessions not reported before."},
			"peers":      {Type: framework.TypeSlice, Description: "Peers as it last found them: name, up, error, latency_ms, checked_at, crl_time."},
			"mismatches": {Type: framework.TypeSlice, Description: "Leaves of agents that are expected from a peer with another one: agent_id, fingerprint, source_ip."},
			"refusals":   {Type: framework.TypeSlice, Description: "Refusals of the edge itself since the last report: source_ip, code, count."},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: forwarded(serve(b, b.edgeReport), "Report an edge and its sessions.", responses("What the agents' rows say.", apitype.ReportResponse{}), "report"),
		},
		HelpSynopsis:    "Report an edge and the agents it has seen.",
		HelpDescription: "Each session report is answered with the row's instance_uid, group and the standing of the certificate.",
	})...)
}

func (b *backend) edgeSync(ctx context.Context, _ call, in apitype.SyncRequest) (apitype.SyncResponse, error) {
	return b.feed.Poll(ctx, in.Since, time.Duration(in.Wait)*time.Second)
}

// syncSettings is the configuration as edges take it.
func (b *backend) syncSettings(ctx context.Context) (apitype.SyncSettings, error) {
	c, err := b.settings.Get(ctx)
	if err != nil {
		return apitype.SyncSettings{}, err
	}
	now, err := b.epoch.Now(ctx)
	if err != nil {
		return apitype.SyncSettings{}, err
	}
	return apitype.SyncSettings{
		TrustDomain: c.TrustDomain, Endpoint: c.Endpoint, EndpointCABundle: c.EndpointCABundle,
		KeyOrigin: c.KeyOrigin, HeartbeatInterval: c.HeartbeatInterval, CRLExpiry: c.CRLExpiry, RestoreCount: now.Restores(),
	}, nil
}

func (b *backend) edgeReport(ctx context.Context, c call, in apitype.ReportRequest) (apitype.ReportResponse, error) {
	var none apitype.ReportResponse
	if err := name.Check("name", in.Name); err != nil {
		return none, err
	}
	if err := name.Text("version", in.Version, name.MaxLabel); err != nil {
		return none, err
	}
	if err := checkPeerReports(in.Peers); err != nil {
		return none, err
	}
	if err := name.Text("revision", in.Revision, name.MaxLabel); err != nil {
		return none, err
	}
	if len(in.Sessions) > apitype.MaxSessionReports {
		return none, apitype.Errorf(apitype.FieldInvalid, "sessions has more than %d entries", apitype.MaxSessionReports)
	}
	out := apitype.ReportResponse{Sessions: []apitype.SessionAnswer{}}
	for _, s := range in.Sessions {
		a, err := b.enroll.Seen(ctx, c.origin, c.tenant, in.Name, s)
		if err != nil {
			return none, err
		}
		out.Sessions = append(out.Sessions, a)
	}
	if len(in.Mismatches) > apitype.MaxMismatches {
		return none, apitype.Errorf(apitype.FieldInvalid, "mismatches has more than %d entries", apitype.MaxMismatches)
	}
	for _, mismatch := range in.Mismatches {
		if err := b.enroll.Mismatch(ctx, c.origin, c.tenant, mismatch); err != nil {
			return none, err
		}
	}
	if err := b.edges.seen(ctx, c.tenant, in); err != nil {
		return none, err
	}
	if err := b.trail.reported(c.tenant, in.Refusals); err != nil {
		return none, err
	}
	return out, nil
}

func (b *backend) edgeCertificate(ctx context.Context, _ call, in apitype.EdgeCertificateRequest) (apitype.EdgeCertificate, error) {
	var none apitype.EdgeCertificate
	csr, err := ca.ParseCSR(in.CSR)
	if err != nil {
		return none, err
	}
	cfg, err := b.settings.Get(ctx)
	if err != nil {
		return none, err
	}
	names, addresses, err := settings.EdgeNames(cfg, in.DNSNames, in.IPs)
	if err != nil {
		return none, err
	}
	set, err := b.authority.Set(ctx)
	if err != nil {
		return none, err
	}
	issuer, err := set.Server(b.enroll.Now())
	if err != nil {
		return none, err
	}
	leaf, err := ca.SignEdge(issuer, ca.EdgeTemplate{PublicKey: csr.PublicKey, DNSNames: names, IPs: addresses, Now: b.enroll.Now()})
	if err != nil {
		return none, err
	}
	chain := append([]string{ca.EncodeCertificate(issuer.Certificate.Raw)}, ca.EncodeChain(issuer.Chain)...)
	return apitype.EdgeCertificate{
		Certificate: leaf.PEM, IssuingCA: chain[0], CAChain: chain, SerialNumber: leaf.Serial.String(), Expiration: leaf.NotAfter.Unix(),
	}, nil
}
