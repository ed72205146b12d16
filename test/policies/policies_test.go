// Package policies_test holds the policies of scripts/policies against a real Vault: what each may, and that it may nothing else.
package policies_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/scripts/policies"
	"github.com/ampora/ampora/test/vaulttest"
	vault "github.com/hashicorp/vault/api"
)

// may is what each policy may, as "operation path"; + stands for a parameter. Whatever the engine serves besides is tried as well,
// and must be refused: a new path fails this test until somebody decides.
func may() map[string][]string {
	return map[string][]string{
		policies.Edge: {
			"read edge/sync", "write edge/report", "write edge/certificate", "write edge/crl", "write edge/ocsp",
			"write redeem", "write redeem/check", "write agents/+/renew", "write pools/+/admin/issue",
			"read edge/configurations", "read edge/configurations/+", "write peers/+/bundle",
			"read handover/outbox", "write handover/receipt",
		},
		policies.TokenIssuer: {"write tokens/issue"},
		policies.Operator: {
			"write tokens/issue", "read tokens", "list tokens", "read tokens/+", "write tokens/+/revoke", "write tokens/revoke-all",
			"read pools", "list pools", "read pools/+", "write pools/+", "delete pools/+",
			"write pools/+/issue", "write pools/+/rotate-secret", "write pools/+/revoke",
			"read agents", "list agents", "read agents/+", "write agents/+", "delete agents/+", "write agents/+/revoke", "write agents/group", "write agents/revoke",
			"read groups", "list groups", "read groups/+", "write groups/+", "delete groups/+",
			"read configurations", "list configurations", "read configurations/+", "write configurations/+", "delete configurations/+",
			"read agents/summary", "read edges", "list edges", "read config", "list ca/issuers", "write edge/crl",
			"read peers", "list peers", "read peers/+", "write peers/+", "delete peers/+", "write peers/+/bundle",
			"write agents/+/handover", "write handover/inspect", "write handover/redeem", "read handovers", "list handovers",
			"write handover/issue", "write handover/manifest", "write handover/progress",
			"read handovers/+", "write handovers/+", "delete handovers/+", "read handover/outbox", "write handover/receipt",
		},
		policies.Auditor: {
			"read audit/events", "read edges", "list edges", "read peers", "list peers", "read peers/+",
			"read handovers", "list handovers", "read handovers/+",
		},
	}
}

// anyone needs no policy for these.
func anyone() []string {
	return []string{
		"read ca/bundle", "read ca/bundle/pem", "read federation/bundle", "read crl", "read crl/pem", "read issuer/+/crl", "read issuer/+/crl/pem", "read ocsp/+",
	}
}

// tenantMay is what the variants for one tenant may, out of the comments of the same files.
func tenantMay() map[string][]string {
	tenant := map[string][]string{}
	for role, all := range may() {
		for _, what := range all {
			op, path, _ := strings.Cut(what, " ")
			switch path {
			case "edge/sync", "edge/certificate", "edge/crl", "edge/ocsp", "config", "ca/issuers",
				"peers/+/bundle", "peers", "peers/+", "handover/outbox", "handover/receipt":
				if mountsOwn(role, path) {
					continue
				}
				tenant[role] = append(tenant[role], what)
			default:
				tenant[role] = append(tenant[role], op+" tenants/+/"+path)
			}
		}
	}
	return tenant
}

// mountsOwn reports whether a role has the path only where it is not confined to a tenant: peers let agents into every tenant,
// and the outbox has the receipts of all of them.
func mountsOwn(role, path string) bool {
	return role != policies.Edge && (strings.HasPrefix(path, "peers") || path == "handover/outbox")
}

func TestEachPolicyMayWhatItSaysAndNothingElse(t *testing.T) {
	v := vaulttest.Start(t)
	ready(t, v)
	paths := served(t, v)
	all, err := policies.All("ampora")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(may()) {
		t.Fatalf("%d policies, %d of them are known here", len(all), len(may()))
	}
	for _, p := range all {
		t.Run(p.Role, func(t *testing.T) {
			check(t, v, paths, p.Text, "ampora", may()[p.Role])
		})
		t.Run(p.Role+" of a tenant", func(t *testing.T) {
			check(t, v, paths, uncommented(p.Text), "ampora", tenantMay()[p.Role])
			checkOtherTenants(t, v, paths, uncommented(p.Text))
		})
	}
	t.Run(policies.TenantOperator, func(t *testing.T) {
		p, err := policies.ForTenant("ampora", "acme")
		if err != nil {
			t.Fatal(err)
		}
		check(t, v, paths, p.Text, "ampora", ofATenant(t, v, paths))
		checkOtherTenants(t, v, paths, p.Text)
		p, err = policies.ForTenant("other", "umbrella")
		if err != nil {
			t.Fatal(err)
		}
		check(t, v, paths, p.Text, "ampora", nil)
		checkOtherTenants(t, v, paths, p.Text)
	})
	t.Run(policies.PoolIssuer, func(t *testing.T) {
		one := holder(t, v, poolIssuer(t, "ampora", "", "ci").Text)
		for what, want := range map[string]bool{
			"pools/ci/issue": true, "pools/web/issue": false, "pools/ci": false, "pools/ci/admin/issue": false, "pools/ci/revoke": false,
			"tenants/acme/pools/ci/issue": false, "pools/ci%2fissue": false, "pools/web/../ci/revoke": false,
		} {
			if allowed(t, one, "write", "ampora/"+what) != want {
				t.Errorf("the issuer of a pool may %s: %v", what, !want)
			}
		}
		acme := holder(t, v, poolIssuer(t, "ampora", "acme", "ci").Text)
		for what, want := range map[string]bool{
			"tenants/acme/pools/ci/issue": true, "tenants/acme/pools/web/issue": false, "tenants/acme-2/pools/ci/issue": false,
			"pools/ci/issue": false, "tenants/acme/tokens/issue": false,
		} {
			if allowed(t, acme, "write", "ampora/"+what) != want {
				t.Errorf("the issuer of a tenant's pool may %s: %v", what, !want)
			}
		}
		// Any other path of the engine, with any other pool's name in it.
		check(t, v, paths, poolIssuer(t, "ampora", "", "ci").Text, "ampora", nil)
		check(t, v, paths, poolIssuer(t, "ampora", "acme", "ci").Text, "ampora", nil)
		checkOtherTenants(t, v, paths, poolIssuer(t, "ampora", "acme", anyID).Text)
		// And with its own name in them all.
		check(t, v, paths, poolIssuer(t, "ampora", "", anyID).Text, "ampora", []string{"write pools/+/issue"})
		check(t, v, paths, poolIssuer(t, "ampora", "acme", anyID).Text, "ampora", []string{"write tenants/+/pools/+/issue"})
		check(t, v, paths, uncommented(poolIssuer(t, "ampora", "", "web").Text), "ampora", nil)
		check(t, v, paths, poolIssuer(t, "other", "", anyID).Text, "other", []string{"write pools/+/issue"})
		check(t, v, paths, poolIssuer(t, "other", "", anyID).Text, "ampora", nil)
	})
	t.Run("another mount", func(t *testing.T) {
		moved, err := policies.All("other")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range moved {
			check(t, v, paths, p.Text, "other", may()[p.Role])
			check(t, v, paths, p.Text, "ampora", nil)
		}
	})
}

func poolIssuer(t *testing.T, mount, tenant, pool string) policies.Policy {
	t.Helper()
	p, err := policies.ForPool(mount, tenant, pool)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// check tries every operation on every path of a mount with a token that has one policy, and some paths beyond.
func check(t *testing.T, v *vaulttest.Vault, paths []string, policy, mount string, want []string) {
	t.Helper()
	c := holder(t, v, policy)
	var got []string
	for _, path := range paths {
		for _, op := range []string{"read", "list", "write", "delete", "patch"} {
			if allowed(t, c, op, mount+"/"+fill(path, "acme")) {
				got = append(got, op+" "+path)
			}
		}
	}
	sort.Strings(got)
	want = append(slices.Clone(want), anyone()...)
	sort.Strings(want)
	if !slices.Equal(got, want) {
		t.Errorf("the policy may\n  %s\nand should\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	for _, path := range []string{
		"sys/mounts", "sys/mounts/ampora/tune", "sys/policies/acl/ampora-edge", "sys/auth", "sys/audit", "sys/plugins/catalog/secret/x",
		"sys/seal-status-not", "sys/raw/x", "auth/token/create", "auth/token/lookup", "auth/approle/role/ampora-edge-one",
		"auth/approle/role/ampora-edge-one/secret-id", "identity/entity", "cubbyhole/x", "ampora", "amporax/tokens/issue",
	} {
		for _, op := range []string{"read", "list", "write", "delete"} {
			if allowed(t, c, op, path) {
				t.Errorf("the policy may %s %s", op, path)
			}
		}
	}
}

// ofATenant is every operation that is served below a tenant's prefix.
func ofATenant(t *testing.T, v *vaulttest.Vault, paths []string) []string {
	t.Helper()
	c := holder(t, v, `path "ampora/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }`)
	var all []string
	for _, path := range paths {
		for _, op := range []string{"read", "list", "write", "delete", "patch"} {
			if strings.HasPrefix(path, "tenants/+/") && allowed(t, c, op, "ampora/"+fill(path, "acme")) {
				all = append(all, op+" "+path)
			}
		}
	}
	return all
}

// checkOtherTenants holds that the policy of the tenant acme opens no other tenant.
func checkOtherTenants(t *testing.T, v *vaulttest.Vault, paths []string, policy string) {
	t.Helper()
	c := holder(t, v, policy)
	for _, path := range paths {
		if !strings.HasPrefix(path, "tenants/") {
			continue
		}
		for _, op := range []string{"read", "list", "write", "delete", "patch"} {
			for _, tenant := range []string{"umbrella", "acme-2", "acm"} {
				if allowed(t, c, op, "ampora/"+fill(path, tenant)) {
					t.Errorf("the policy of one tenant may %s %s of %s", op, path, tenant)
				}
			}
		}
	}
}

// served lists the paths that the engine says it serves, with + for each parameter.
func served(t *testing.T, v *vaulttest.Vault) []string {
	t.Helper()
	r := v.Client().NewRequest(http.MethodGet, "/v1/sys/internal/specs/openapi")
	r.Params.Set("generic_mount_paths", "false")
	//lint:ignore SA1019 the specification is no secret of Vault's shape
	resp, err := v.Client().RawRequestWithContext(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var spec struct {
		Paths map[string]any `json:"paths"`
	}
	if err := resp.DecodeJSON(&spec); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for path := range spec.Paths {
		rest, ours := strings.CutPrefix(path, "/ampora/")
		if !ours {
			continue
		}
		parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
		for i, part := range parts {
			if strings.HasPrefix(part, "{") {
				parts[i] = "+"
			}
		}
		paths = append(paths, strings.Join(parts, "/"))
	}
	sort.Strings(paths)
	paths = slices.Compact(paths)
	if len(paths) < 20 {
		t.Fatalf("the specification lists only %d paths: %v", len(paths), paths)
	}
	return paths
}

// anyID is put for parameters: nothing of that name exists.
const anyID = "0197a1b2-0000-7000-8000-000000000000"

// fill puts a tenant and otherwise anyID for the parameters.
func fill(path, tenant string) string {
	if rest, found := strings.CutPrefix(path, "tenants/+/"); found {
		return "tenants/" + tenant + "/" + strings.ReplaceAll(rest, "+", anyID)
	}
	return strings.ReplaceAll(path, "+", anyID)
}

// allowed reports whether Vault lets the operation through to where it is served.
func allowed(t *testing.T, c *vault.Client, op, path string) bool {
	t.Helper()
	methods := map[string]string{"read": http.MethodGet, "list": "LIST", "write": http.MethodPut, "delete": http.MethodDelete, "patch": http.MethodPatch}
	r := c.NewRequest(methods[op], "/v1/"+path)
	if op == "write" || op == "patch" {
		if err := r.SetJSONBody(map[string]any{}); err != nil {
			t.Fatal(err)
		}
		if op == "patch" {
			r.Headers.Set("Content-Type", "application/merge-patch+json")
		}
	}
	//lint:ignore SA1019 the status is what is looked for
	resp, err := c.RawRequestWithContext(t.Context(), r)
	if resp == nil {
		t.Fatalf("%s %s: %v", op, path, err)
	}
	defer resp.Body.Close()
	// 405 and a plain 404 for an operation that nobody serves: the policy's grant, if there is one, opens nothing.
	return resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusMethodNotAllowed && !unrouted(err)
}

func unrouted(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "no handler for route") || strings.Contains(err.Error(), "unsupported path"))
}

// holder is a client with a token that has this policy and no other.
func holder(t *testing.T, v *vaulttest.Vault, policy string) *vault.Client {
	t.Helper()
	name := fmt.Sprintf("under-test-%d", len(policy))
	if err := v.Client().Sys().PutPolicyWithContext(t.Context(), name, policy); err != nil {
		t.Fatal(err)
	}
	secret, err := v.Client().Auth().Token().CreateWithContext(t.Context(), &vault.TokenCreateRequest{Policies: []string{name}, NoDefaultPolicy: true})
	if err != nil {
		t.Fatal(err)
	}
	return v.ClientWithToken(secret.Auth.ClientToken)
}

// uncommented is the variant for one tenant: the paths that stand in comments, and nothing else.
func uncommented(text string) string {
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "# path ") {
			lines = append(lines, strings.TrimPrefix(line, "# "))
		}
	}
	return strings.Join(lines, "\n")
}

// ready mounts the engine twice and gives it what it needs to issue.
func ready(t *testing.T, v *vaulttest.Vault) {
	t.Helper()
	version, err := v.RegisterAmpora(t.Context(), "ampora")
	if err == nil {
		err = v.EnableSecrets(t.Context(), "other", "vault-plugin-secrets-ampora", version)
	}
	if err != nil {
		t.Fatal(err)
	}
	configure(t.Context(), t, engine(t, v.Client()))
}

func engine(t *testing.T, v *vault.Client) *client.Client {
	t.Helper()
	c, err := client.New(v, "ampora")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func configure(ctx context.Context, t *testing.T, c *client.Client) {
	t.Helper()
	if err := c.UpdateConfig(ctx, map[string]any{
		"peer_id": "test", "trust_domain": "test.example", "endpoint": "wss://localhost:4320/v1/opamp", "edge_allowed_domains": "localhost",
	}); err != nil {
		t.Fatal(err)
	}
}
