package ampora_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	ampora "github.com/ampora/ampora/plugin"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func TestEveryPathIsDocumented(t *testing.T) {
	m := newMount(t)
	if strings.TrimSpace(m.backend.Help) == "" {
		t.Error("the engine has no help")
	}
	for _, p := range m.backend.Paths {
		if p.HelpSynopsis == "" || p.HelpDescription == "" {
			t.Errorf("%s has no help", p.Pattern)
		}
		if p.DisplayAttrs == nil || p.DisplayAttrs.OperationPrefix == "" || p.DisplayAttrs.OperationSuffix == "" {
			t.Errorf("%s has no DisplayAttrs", p.Pattern)
		}
		if len(p.Operations) == 0 {
			t.Errorf("%s has no operations", p.Pattern)
		}
		for field, s := range p.Fields {
			if s.Description == "" {
				t.Errorf("%s: field %s has no description", p.Pattern, field)
			}
		}
	}
	allPaths(m.backend, func(p *framework.Path, op logical.Operation, h framework.OperationHandler) {
		properties := h.Properties()
		if properties.Summary == "" {
			t.Errorf("%s %s has no summary", op, p.Pattern)
		}
		if len(properties.Responses) != 1 {
			t.Errorf("%s %s declares %d answers instead of one", op, p.Pattern, len(properties.Responses))
		}
		for status, answers := range properties.Responses {
			if len(answers) != 1 || answers[0].Description == "" {
				t.Errorf("%s %s: the answer %d is not described", op, p.Pattern, status)
			}
			if status == http.StatusOK && answers[0].Fields == nil && answers[0].MediaType == "" {
				t.Errorf("%s %s: the answer has neither fields nor a media type", op, p.Pattern)
			}
		}
	})
}

// unanchored is a pattern as we wrote it: the framework puts the ^ in front at first use.
func unanchored(p *framework.Path) string { return strings.TrimPrefix(p.Pattern, "^") }

func TestPatternsAreAnchoredAndCaptureNothingOptional(t *testing.T) {
	capture := regexp.MustCompile(`\(\?P<([a-z_]+)>([^)]*)\)`)
	for _, p := range newMount(t).backend.Paths {
		if !strings.HasSuffix(p.Pattern, "$") {
			t.Errorf("%s has no end", p.Pattern)
		}
		if strings.Contains(p.Pattern, ")?") || strings.Contains(p.Pattern, "framework.") {
			t.Errorf("%s has an optional capture", p.Pattern)
		}
		for _, c := range capture.FindAllStringSubmatch(p.Pattern, -1) {
			if unanchored(p) == "ocsp/(?P<request>.+)$" {
				continue // base64, which has slashes
			}
			if c[2] != "[^/]+" {
				t.Errorf("%s: %s is not one whole segment", p.Pattern, c[1])
			}
			if p.Fields[c[1]] == nil {
				t.Errorf("%s captures %s, which is no field", p.Pattern, c[1])
			}
		}
		for op := range p.Operations {
			if op == logical.ListOperation && !strings.HasSuffix(p.Pattern, "/?$") {
				t.Errorf("%s lists, and does not end in /?", p.Pattern)
			}
		}
	}
}

func TestHotPathsAreRoutedFirst(t *testing.T) {
	var first []string
	for _, p := range newMount(t).backend.Paths[:7] {
		first = append(first, unanchored(p))
	}
	const tenant = "tenants/(?P<tenant>[^/]+)/"
	want := []string{"redeem$", tenant + "redeem$", "redeem/check$", tenant + "redeem/check$", "edge/sync$", "edge/certificate$", "edge/report$"}
	if strings.Join(first, "\n") != strings.Join(want, "\n") {
		t.Errorf("the first paths are\n%s", strings.Join(first, "\n"))
	}
}

func TestEveryPathOfTheContractIsRoutedToItself(t *testing.T) {
	b := newMount(t).backend
	for path, pattern := range map[string]string{
		apitype.PathConfig: "config$", apitype.PathCARoot: "ca/root$", apitype.PathCAIntermediate: "ca/intermediate$",
		apitype.PathCASetSigned: "ca/intermediate/set-signed$", apitype.PathCAIssuers: "ca/issuers/?$",
		apitype.PathCAIssuers + "/": "ca/issuers/?$", apitype.PathCABundle: "ca/bundle$", apitype.PathCABundlePEM: "ca/bundle/pem$",
		apitype.PathTokens: "tokens/?$", apitype.PathTokensIssue: "tokens/issue$", apitype.PathRedeem: "redeem$",
		apitype.PathRedeemCheck: "redeem/check$", apitype.PathAgents: "agents/?$", apitype.PathEdgeSync: "edge/sync$",
		apitype.PathEdgeCRL: "edge/crl$", apitype.PathEdgeOCSP: "edge/ocsp$", "crl": "crl$", "crl/pem": "crl/pem$",
		"issuer/x/crl": "issuer/(?P<issuer_id>[^/]+)/crl$", "issuer/x/crl/pem": "issuer/(?P<issuer_id>[^/]+)/crl/pem$",
		"ocsp/MEIw+A==": "ocsp/(?P<request>.+)$", "ocsp/a/b//c/": "ocsp/(?P<request>.+)$",
		apitype.PathEdgeReport: "edge/report$", apitype.PathEdgeCertificate: "edge/certificate$", apitype.PathAuditEvents: "audit/events$",
		apitype.PathGroups: "groups/?$", apitype.PathConfigurations: "configurations/?$", apitype.PathAgentsGroup: "agents/group$",
		apitype.PathAgentsSummary: "agents/summary$", apitype.PathEdges: "edges/?$", apitype.PathEdges + "/": "edges/?$",
		"groups/x": "groups/(?P<group>[^/]+)$", "configurations/x": "configurations/(?P<configuration>[^/]+)$",
		apitype.PathPeers: "peers/?$", apitype.PathPeers + "/": "peers/?$", "peers/x": "peers/(?P<peer>[^/]+)$",
		"peers/x/bundle": "peers/(?P<peer>[^/]+)/bundle$", apitype.PathFederationBundle: "federation/bundle$",
		"tokens/x": "tokens/(?P<token_id>[^/]+)$", "tokens/x/revoke": "tokens/(?P<token_id>[^/]+)/revoke$",
		"agents/x": "agents/(?P<agent_id>[^/]+)$", "agents/x/revoke": "agents/(?P<agent_id>[^/]+)/revoke$",
	} {
		if p := b.Route(path); p == nil || unanchored(p) != pattern {
			t.Errorf("%s does not go to %s", path, pattern)
		}
	}
	for _, path := range []string{"", "redeem/", "xredeem", "redeemx", "redeem/check/x", "tenants//redeem", "tenants/a/b/redeem", "tenants/a/config", "tenants/a/ca/root", "tenants/a/edge/sync", "tenants/a/peers", "tenants/a/federation/bundle", "peers/x/bundle/y", "federation", "tokens/a/b", "tokens//revoke", "agents/a/revoke/x", "config/x", "ocsp/", "ocsp", "crl/x", "issuer/crl", "issuer/a/b/crl", "issuer/a", "tenants/a/crl", "tenants/a/edge/ocsp"} {
		if p := b.Route(path); p != nil {
			t.Errorf("%q goes to %s", path, p.Pattern)
		}
	}
}

// The paths with a T in the design exist a second time for a tenant, with the same operations.
func TestTenantScopedPathsExistTwice(t *testing.T) {
	b := newMount(t).backend
	for _, path := range []string{
		apitype.PathTokens, apitype.PathTokensIssue, apitype.PathTokens + "/x", apitype.PathTokens + "/x/revoke", apitype.PathRedeem, apitype.PathRedeemCheck,
		apitype.PathAgents, apitype.PathAgents + "/x", apitype.PathAgents + "/x/revoke", apitype.PathEdgeReport, apitype.PathAuditEvents,
		apitype.PathAgentsSummary, apitype.PathEdges, apitype.PathAgentsGroup, apitype.PathGroups, apitype.PathGroups + "/x", apitype.PathConfigurations, apitype.PathConfigurations + "/x",
	} {
		plain, scoped := b.Route(path), b.Route(apitype.Scoped("acme", path))
		if scoped == nil || unanchored(scoped) != "tenants/(?P<tenant>[^/]+)/"+unanchored(plain) || len(scoped.Operations) != len(plain.Operations) {
			t.Errorf("%s is not there for a tenant", path)
		}
	}
}

func TestOnlyBundlesCRLAndOCSPNeedNoVaultToken(t *testing.T) {
	special := newMount(t).backend.SpecialPaths()
	if got := strings.Join(special.Unauthenticated, " "); got != "ca/bundle ca/bundle/pem federation/bundle ocsp/* crl crl/pem issuer/+/crl issuer/+/crl/pem" {
		t.Errorf("unauthenticated: %s", got)
	}
	if got := strings.Join(special.SealWrapStorage, " "); got != "ca/issuer/ pool/" {
		t.Errorf("seal-wrapped: %s", got)
	}
}

// What signs, locks or reads the memory of the active node is forwarded to it.
func TestEveryOperationButTheBundleIsForwarded(t *testing.T) {
	allPaths(newMount(t).backend, func(p *framework.Path, op logical.Operation, h framework.OperationHandler) {
		want := !strings.HasPrefix(unanchored(p), "ca/bundle")
		if q := h.Properties(); q.ForwardPerformanceStandby != want || q.ForwardPerformanceSecondary != want {
			t.Errorf("%s %s: forwarded %v, %v", op, p.Pattern, q.ForwardPerformanceStandby, q.ForwardPerformanceSecondary)
		}
	})
}

func TestOpenAPIHasUniqueOperationIDs(t *testing.T) {
	ids := map[string]string{}
	for path, item := range openAPI(t, newMount(t).backend) {
		for method, operation := range item {
			o, ok := operation.(map[string]any)
			if !ok || o["operationId"] == nil {
				continue
			}
			id, here := o["operationId"].(string), method+" "+path
			if other := ids[id]; other != "" {
				t.Errorf("operation id %s: %s and %s", id, other, here)
			}
			if !strings.HasPrefix(id, "ampora-") {
				t.Errorf("operation id %s of %s does not begin with ampora-", id, here)
			}
			ids[id] = here
		}
	}
	if len(ids) < 40 {
		t.Errorf("only %d operations are documented", len(ids))
	}
}

// openAPI is the paths of the document that the framework makes.
func openAPI(t *testing.T, b *ampora.Backend) map[string]map[string]any {
	t.Helper()
	resp, err := b.HandleRequest(t.Context(), &logical.Request{Operation: logical.HelpOperation, Storage: &logical.InmemStorage{}, Data: data{"requestResponsePrefix": "ampora"}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(resp.Data["openapi"])
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	return document.Paths
}

func TestHelpOfEveryPathIsAnswered(t *testing.T) {
	m := newMount(t)
	for _, path := range []string{"config", "ca/root", "tokens/issue", "tenants/acme/tokens/issue", "agents/x/revoke", "edge/sync"} {
		resp, err := m.backend.HandleRequest(t.Context(), &logical.Request{Operation: logical.HelpOperation, Path: path})
		if err != nil || resp.Data["help"] == "" {
			t.Errorf("%s: %v", path, err)
		}
	}
}
