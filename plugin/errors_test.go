package ampora_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ampora "github.com/ampora/ampora/plugin"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/plugintest"
	secret "github.com/ampora/ampora/plugin/token"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	vault "github.com/hashicorp/vault/api"
)

// codesOfThePlugin reads off the sources which codes the plugin can give.
func codesOfThePlugin(t *testing.T) []apitype.Code {
	t.Helper()
	names := map[string]apitype.Code{}
	inspect(t, "apitype/errors.go", func(n ast.Node) {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				text, _ := strconv.Unquote(lit.Value)
				names[v.Names[0].Name] = apitype.Code(text)
			}
		}
	})
	if len(names) != len(apitype.Codes()) {
		t.Fatalf("%d constants, %d codes", len(names), len(apitype.Codes()))
	}
	found := map[apitype.Code]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "apitype" || path == "client" || path == "plugintest") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			inspect(t, path, func(n ast.Node) {
				if s, ok := n.(*ast.SelectorExpr); ok && fmt.Sprint(s.X) == "apitype" {
					if code, ok := names[s.Sel.Name]; ok {
						found[code] = true
					}
				}
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(found))
}

func inspect(t *testing.T, path string, visit func(ast.Node)) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool { visit(n); return true })
}

// provocations has one request for every code that the plugin can give. Most have more cases beside their paths.
var provocations = map[apitype.Code]func(m *mount){
	apitype.NameInvalid:   func(m *mount) { m.no(apitype.NameInvalid, write, "tokens/issue", data{"group": "A"}) },
	apitype.FieldInvalid:  func(m *mount) { m.no(apitype.FieldInvalid, write, "tokens/issue", data{"label": "\n"}) },
	apitype.TTLOutOfRange: func(m *mount) { m.no(apitype.TTLOutOfRange, write, "tokens/issue", data{"ttl": 1}) },
	apitype.ConfigFixed:   func(m *mount) { m.no(apitype.ConfigFixed, write, "config", data{"trust_domain": "x"}) },
	apitype.NotConfigured: func(m *mount) { m.no(apitype.NotConfigured, write, "ca/root", nil) },
	apitype.IssuerMissing: func(m *mount) {
		m.no(apitype.IssuerMissing, write, "redeem/check", data{"token": m.issue(nil).Token})
	},
	apitype.IssuerInvalid:  func(m *mount) { m.no(apitype.IssuerInvalid, write, "ca/intermediate/set-signed", nil) },
	apitype.IssuerUnknown:  func(m *mount) { m.no(apitype.IssuerUnknown, read, "ca/issuers/x", nil) },
	apitype.TokenMalformed: func(m *mount) { m.no(apitype.TokenMalformed, write, "redeem/check", nil) },
	apitype.TokenChecksum: func(m *mount) {
		text := []byte(m.issue(nil).Token)
		text[10] ^= 1 // a <-> `, so take another letter where that is none
		if text[10] < 'a' || text[10] > 'z' {
			text[10] = 'q'
		}
		m.no(apitype.TokenChecksum, write, "redeem/check", data{"token": string(text)})
	},
	apitype.TokenUnknown: func(m *mount) { m.no(apitype.TokenUnknown, read, "tokens/x", nil) },
	apitype.TokenExpired: func(m *mount) {
		issued := m.issue(nil)
		m.clock.advance(24 * time.Hour)
		m.no(apitype.TokenExpired, write, "redeem/check", data{"token": issued.Token})
	},
	apitype.TokenRevoked: func(m *mount) {
		issued := m.issue(nil)
		m.ok(write, "tokens/"+issued.TokenID+"/revoke", nil)
		m.no(apitype.TokenRevoked, write, "redeem/check", data{"token": issued.Token})
	},
	apitype.TokenRedeemed: func(m *mount) {
		_, spent := m.enrol(nil)
		m.no(apitype.TokenRedeemed, write, "redeem/check", data{"token": spent.Token})
	},
	apitype.CIDRMismatch: func(m *mount) {
		m.no(apitype.CIDRMismatch, write, "redeem/check", data{"token": m.issue(data{"bound_cidrs": "10.0.0.0/8"}).Token})
	},
	apitype.TenantMismatch: func(m *mount) {
		m.no(apitype.TenantMismatch, write, "tenants/acme/redeem/check", data{"token": m.issue(nil).Token})
	},
	apitype.CSRInvalid: func(m *mount) {
		m.no(apitype.CSRInvalid, write, "redeem", data{"token": m.issue(nil).Token, "csr": "x"})
	},
	apitype.CSRRequired:   func(m *mount) { m.no(apitype.CSRRequired, write, "redeem", data{"token": m.issue(nil).Token}) },
	apitype.KeyNotAllowed: func(m *mount) { m.no(apitype.KeyNotAllowed, write, "ca/root", data{"key_type": "dsa"}) },
	apitype.EdgeNameNotAllowed: func(m *mount) {
		m.no(apitype.EdgeNameNotAllowed, write, "edge/certificate", data{"csr": newCSR(m), "dns_names": "a.example"})
	},
	apitype.AgentUnknown: func(m *mount) { m.no(apitype.AgentUnknown, read, "agents/x", nil) },
	apitype.AgentRevoked: func(m *mount) {
		body := data{"token": m.issue(nil).Token, "csr": newCSR(m), "idempotency_key": firstKey}
		m.ok(write, "agents/"+m.redeem(body).AgentID+"/revoke", nil)
		m.no(apitype.AgentRevoked, write, "redeem", body)
	},
	apitype.RenewalProofMissing: func(m *mount) {
		id, _ := m.enrol(nil)
		m.no(apitype.RenewalProofMissing, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint, "csr": newCSR(m)})
	},
	apitype.CertificateUntrusted: func(m *mount) {
		id, _ := m.enrol(nil)
		old := call[apitype.ListResponse[apitype.CAIssuer]](m, list, "ca/issuers", nil).Keys[0]
		next := call[apitype.CAIssuer](m, write, "ca/root", nil)
		m.ok(write, "ca/issuers/"+next.IssuerID, data{"state": "active"})
		m.ok(write, "ca/issuers/"+old, data{"state": "retired", "force": true})
		m.no(apitype.CertificateUntrusted, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})
	},
	apitype.CertificateRevoked: func(m *mount) {
		id, _ := m.enrol(nil)
		m.no(apitype.CertificateRevoked, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": strings.Repeat("0", 64)})
	},
	apitype.CertificateExpired: func(m *mount) {
		id, _ := m.enrol(nil)
		m.clock.advance(91 * 24 * time.Hour)
		m.no(apitype.CertificateExpired, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint})
	},
	apitype.RateLimited: func(m *mount) {
		id := m.redeem(data{"token": m.issue(nil).Token, "generate_key": true})
		for range 65 {
			m.ok(write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint, "generate_key": true})
		}
		m.no(apitype.RateLimited, write, "agents/"+id.AgentID+"/renew", data{"fingerprint": id.Fingerprint, "generate_key": true})
	},
	apitype.CapabilityMissing: func(m *mount) {
		m.no(apitype.CapabilityMissing, write, "redeem", data{"token": m.issue(nil).Token, "csr": newCSR(m), "capabilities": 1})
	},
	apitype.GroupMissing: func(m *mount) { m.no(apitype.GroupMissing, write, "tokens/issue", data{"group": "web"}) },
	apitype.GroupUnknown: func(m *mount) { m.no(apitype.GroupUnknown, read, "groups/web", nil) },
	apitype.ConfigurationMissing: func(m *mount) {
		m.no(apitype.ConfigurationMissing, write, "groups/web", data{"configuration": "base"})
	},
	apitype.ConfigurationUnknown: func(m *mount) { m.no(apitype.ConfigurationUnknown, read, "configurations/base", nil) },
	apitype.BodyTooLarge: func(m *mount) {
		m.no(apitype.BodyTooLarge, write, "configurations/base", data{"body": strings.Repeat("a", apitype.MaxConfigurationBody+1)})
	},
	apitype.InUse: func(m *mount) {
		m.group("", "web", nil)
		m.issue(data{"group": "web"})
		m.no(apitype.InUse, remove, "groups/web", nil)
	},
	apitype.PeerUnknown: func(m *mount) { m.no(apitype.PeerUnknown, read, "peers/eu", nil) },
	apitype.PeerSuspended: func(m *mount) {
		eu := befriend(m, "eu")
		m.ok(write, "peers/eu", data{"suspended": true})
		m.no(apitype.PeerSuspended, write, "peers/eu/bundle", data{"bundle_jws": eu.bundle().BundleJWS})
	},
	apitype.BundleInvalid: func(m *mount) {
		befriend(m, "eu")
		m.no(apitype.BundleInvalid, write, "peers/eu/bundle", data{"bundle_jws": "x"})
	},
	apitype.BundleOutdated: func(m *mount) {
		eu := befriend(m, "eu")
		old := eu.bundle()
		eu.rotate()
		m.ok(write, "peers/eu/bundle", data{"bundle_jws": eu.bundle().BundleJWS})
		m.no(apitype.BundleOutdated, write, "peers/eu/bundle", data{"bundle_jws": old.BundleJWS})
	},
	apitype.HandoverSignatureInvalid: func(m *mount) {
		befriend(m, "eu")
		m.no(apitype.HandoverSignatureInvalid, write, "peers/eu/bundle", data{"bundle_jws": installation(m.T, "us").bundle().BundleJWS})
	},
	apitype.PoolUnknown: func(m *mount) { m.no(apitype.PoolUnknown, write, "pools/ci/issue", nil) },
	apitype.PoolSecretInvalid: func(m *mount) {
		m.no(apitype.PoolSecretInvalid, write, "pools/ci/admin/issue", data{"admin_secret": secret.New(secret.PoolSecret).Reveal()})
	},
	apitype.PoolRevoked: func(m *mount) {
		m.pool("ci", nil)
		issued := m.fromPool("ci", nil)
		m.ok(write, "pools/ci/revoke", nil)
		m.no(apitype.PoolRevoked, write, "redeem/check", data{"token": issued.Token})
	},
	apitype.PoolFull: func(m *mount) {
		m.pool("ci", data{"max_outstanding": 1})
		m.no(apitype.PoolFull, write, "pools/ci/issue", data{"count": 2})
	},
	apitype.OutcomeUnknown: func(m *mount) {
		m.storage.Before(func(context.Context, plugintest.Op) error { return errors.New("no quorum") })
		m.no(apitype.OutcomeUnknown, write, "tokens/issue", nil)
	},
	apitype.NotReady: func(m *mount) {
		m.storage.Before(func(context.Context, plugintest.Op) error { return errors.New("no quorum") })
		m.backend.InvalidateKey(m.Context(), "revoked/00/x")
		m.no(apitype.NotReady, read, "edge/sync", nil)
	},
	apitype.SchemaTooNew: func(m *mount) {
		m.put("config", `{"v":99,"row":{}}`)
		m.backend.InvalidateKey(m.Context(), "config")
		m.no(apitype.SchemaTooNew, read, "config", nil)
	},
	apitype.TenantRequired: func(m *mount) {
		m.ok(write, "config", data{"tenancy": "hard"})
		m.no(apitype.TenantRequired, write, "tokens/issue", nil)
	},
	apitype.Internal: func(m *mount) {
		m.put("config", `hello`)
		m.backend.InvalidateKey(m.Context(), "config")
		m.no(apitype.Internal, read, "config", nil)
	},
}

func TestEveryCodeThatThePluginGivesIsProvoked(t *testing.T) {
	unready := []apitype.Code{apitype.NotConfigured, apitype.IssuerMissing}
	for _, code := range codesOfThePlugin(t) {
		t.Run(string(code), func(t *testing.T) {
			provoke := provocations[code]
			if provoke == nil {
				t.Fatal("nothing provokes it")
			}
			m := newMount(t)
			if !slices.Contains(unready, code) {
				m.configure()
			}
			provoke(m)
		})
	}
	for code := range provocations {
		if !slices.Contains(codesOfThePlugin(t), code) {
			t.Errorf("%s is not given by the plugin any more", code)
		}
	}
}

func (m *mount) put(key, value string) {
	m.Helper()
	if err := m.storage.Storage.Put(m.Context(), &logical.StorageEntry{Key: key, Value: []byte(value)}); err != nil {
		m.Fatal(err)
	}
	m.backend.InvalidateKey(m.Context(), key) // as Vault does for what another node wrote
}

// forget makes the engine read tokens and agents again, as a process does that has just started.
func (m *mount) forget() {
	m.Helper()
	for _, prefix := range []string{"token/", "agent/", "group/"} {
		for _, key := range m.keys(prefix) {
			m.backend.InvalidateKey(m.Context(), key)
		}
	}
}

// forgetAgentOf drops from memory that a token which was just issued has made no agent.
func (m *mount) forgetAgentOf(issued apitype.IssuedToken) {
	m.Helper()
	parsed, err := secret.Parse(secret.Bootstrap, issued.Token)
	if err != nil {
		m.Fatal(err)
	}
	m.backend.InvalidateKey(m.Context(), "agent/"+parsed.AgentID()[:2]+"/"+parsed.AgentID())
}

// failing answers every request with an error.
type failing struct {
	*ampora.Backend
	err error
}

func (f *failing) HandleRequest(ctx context.Context, req *logical.Request) (*logical.Response, error) {
	return f.FailWith(ctx, req, f.err)
}

func TestEveryCodeTravelsFromTheHandlerToTheClient(t *testing.T) {
	s := plugintest.Start(t)
	fail := &failing{Backend: s.Backend.(*ampora.Backend)}
	s.Backend = fail
	c := s.Client(t)
	for _, code := range apitype.Codes() {
		for _, detail := range []string{"", "the detail", "a: detail: with colons"} {
			for name, err := range map[string]error{
				"bare":    apitype.Errorf(code, "%s", detail),
				"wrapped": fmt.Errorf("somewhere: %w", apitype.Errorf(code, "%s", detail)),
			} {
				fail.err = err
				_, got := c.IssueToken(t.Context(), apitype.TokenIssueRequest{})
				var e *apitype.Error
				if !errors.As(got, &e) || e.Code != code || e.Detail != detail {
					t.Errorf("%s %s %q arrives as %v", name, code, detail, got)
					continue
				}
				var re *vault.ResponseError
				if !errors.As(got, &re) || re.StatusCode != code.VaultStatus() {
					t.Errorf("%s travels as %v", code, got)
				}
			}
		}
	}
}

func TestWhatIsNoRefusalIsInternalAndSaysNothing(t *testing.T) {
	m := newMount(t)
	req := m.request(write, "tokens/issue", nil)
	resp, err := m.backend.FailWith(t.Context(), req, errors.New("disk on fire at /dev/sda"))
	if e := m.check(req, resp, err); e.Code != apitype.Internal || strings.Contains(e.Error(), "sda") {
		t.Errorf("%v", e)
	}
	if !strings.Contains(m.log.String(), "sda") || !strings.Contains(m.log.String(), req.ID) {
		t.Error("the cause does not stand in the log with its request id")
	}
}

// Vault forwards a request to the active node by the bare text of this one error.
func TestAReadOnlyStorageKeepsItsError(t *testing.T) {
	m := ready(t)
	m.storage.Before(func(_ context.Context, op plugintest.Op) error {
		if op.Kind == "put" {
			return errors.New(logical.ErrReadOnly.Error()) // as it arrives over gRPC
		}
		return nil
	})
	_, err := m.backend.HandleRequest(t.Context(), m.request(write, "tokens/issue", nil))
	if err == nil || err.Error() != logical.ErrReadOnly.Error() {
		t.Errorf("%v", err)
	}
}

func TestOnlyTheKnownStatusesAreUsedOnVault(t *testing.T) {
	for _, code := range apitype.Codes() {
		switch code.VaultStatus() {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusGone, http.StatusServiceUnavailable:
		default:
			t.Errorf("%s travels as %d", code, code.VaultStatus())
		}
	}
}

// wrong is, for each type of field, values of another type that hold the marker, each written as JSON.
func wrong(kind framework.FieldType, marker string) []any {
	odd := []any{data{marker: marker}, []any{data{marker: marker}}, []any{marker, marker}}
	switch kind {
	case framework.TypeString, framework.TypeCommaStringSlice:
		return odd[:2]
	case framework.TypeSlice:
		return []any{marker, []any{marker}, []any{data{"agent_id": []any{marker}, "code": []any{marker}, "latency_ms": []any{marker}}}}
	default:
		return append(odd, marker, "1"+marker, `field "token": `+marker)
	}
}

// examplePath is a path of the pattern, with ids and names of what there is not.
func examplePath(p *framework.Path) string {
	path := regexp.MustCompile(`\(\?P<[a-z_]+_id>\[\^/\]\+\)`).ReplaceAllLiteralString(p.Pattern, unknownID)
	path = regexp.MustCompile(`\(\?P<[a-z_]+>\[\^/\]\+\)`).ReplaceAllLiteralString(path, "acme")
	return strings.NewReplacer("^", "", "$", "", "/?", "").Replace(path)
}

func TestAValueOfTheWrongTypeIsRefusedByTheFieldsNameAndNeverQuoted(t *testing.T) {
	m := ready(t)
	const marker = "amp-bs.marker"
	tried := 0
	allPaths(m.backend, func(p *framework.Path, op logical.Operation, _ framework.OperationHandler) {
		path := examplePath(p)
		for field, s := range p.Fields {
			if strings.Contains(p.Pattern, "<"+field+">") || op == list || op == remove {
				continue // the path's value counts
			}
			for _, value := range wrong(s.Type, marker) {
				tried++
				resp, refusal := m.send(op, path, data{field: value})
				if refusal == nil {
					if field == "bound_cidrs" || field == "capabilities" || resp != nil {
						t.Errorf("%s %s takes %s = %v", op, path, field, value)
					}
					continue
				}
				if refusal.Code != apitype.FieldInvalid || !strings.Contains(refusal.Detail, field) {
					t.Errorf("%s %s, %s = %v: %v", op, path, field, value, refusal)
				}
			}
		}
	})
	if tried < 150 {
		t.Errorf("only %d values were tried", tried)
	}
	for _, text := range append(m.refused, m.log.String()) {
		if strings.Contains(text, "marker") {
			t.Errorf("quoted: %s", text)
		}
	}
}

// Whatever is wrong with a request, no secret in it comes out anywhere but in the one answer that issues it.
func TestNoSecretEverStandsInAnErrorAWarningALogOrTheStorage(t *testing.T) {
	m := ready(t)
	live := m.issue(nil).Token
	pool := secret.New(secret.PoolSecret).Reveal()
	made := m.pool("made", nil).AdminSecret
	unknown := secret.New(secret.Bootstrap).Reveal()
	_, spent := m.enrol(nil)
	idempotency := "idempotency-secret-0123456789"
	secrets := []string{live, pool, made, strings.ToUpper(unknown), spent.Token[:len(live)-1]}
	var answers []string
	allPaths(m.backend, func(p *framework.Path, op logical.Operation, _ framework.OperationHandler) {
		path := examplePath(p)
		for _, s := range secrets {
			bodies := []data{{s: "a name"}, {"unknown_field": s}}
			for field := range p.Fields {
				if field == "description" {
					continue // what an agent says of itself is kept as it is
				}
				for _, value := range []any{s, []any{s}, data{s: s}, "as in " + s + ", " + s} {
					bodies = append(bodies, data{field: value}, data{"token": unknown, "csr": s, "idempotency_key": idempotency, field: value})
				}
			}
			for _, body := range bodies {
				resp, refusal := m.send(op, path, body)
				if refusal == nil && resp != nil {
					answers = append(answers, toText(t, resp.Data))
				}
			}
		}
	})
	ended := live // some path has ended all tokens
	live = m.issue(nil).Token
	m.storage.Before(func(context.Context, plugintest.Op) error { return errors.New("no quorum") })
	m.send(write, "redeem", data{"token": live, "csr": newCSR(t), "idempotency_key": idempotency})
	m.storage.Before(func(_ context.Context, op plugintest.Op) error { panic("at " + live) })
	m.no(apitype.Internal, write, "redeem", data{"token": live, "csr": newCSR(t), "idempotency_key": idempotency})
	m.storage.Before(nil)
	id := m.redeem(data{"token": live, "csr": newCSR(t), "idempotency_key": idempotency})
	answers = append(answers, toText(t, id), toText(t, m.agent(id.AgentID)), toText(t, m.events(nil)))

	places := map[string]string{"errors and warnings": strings.Join(m.refused, "\n"), "the log": m.log.String(), "the storage": m.dump(), "answers": strings.Join(answers, "\n")}
	for _, s := range []string{live, ended, pool, made, unknown, spent.Token} {
		for where, text := range places {
			if payload := strings.Split(s, ".")[1]; strings.Contains(strings.ToLower(text), payload[:20]) {
				t.Errorf("%s hold a secret", where)
			}
		}
	}
	for where, text := range places {
		if strings.Contains(text, idempotency) {
			t.Errorf("%s hold an idempotency key", where)
		}
	}
}
