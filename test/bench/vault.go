package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/scripts/policies"
	"github.com/ampora/ampora/test/vaulttest"
	"github.com/google/uuid"
	"github.com/hashicorp/go-cleanhttp"
	"github.com/hashicorp/vault/api"
)

// vaultSide is the Vault that everything is measured on, and its clients. Each has a token with the policy for its part.
type vaultSide struct {
	server  *vaulttest.Vault
	version string
	ampora  string

	operator  *client.Client // the root token
	issuer    *client.Client
	edge      *client.Client
	edgeToken string

	creator *api.Client // may make secret IDs
	bare    *api.Client // holds no token
	roleID  string
}

// pluginName is what the engine is called in Vault's catalog.
const pluginName = "vault-plugin-secrets-ampora"

const leafTTL = 90 * 24 * time.Hour // the engine's default, and so the one of pki

func startVault(ctx context.Context) (*vaultSide, error) {
	start, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	server, err := vaulttest.Run(start, vaulttest.Options{RawStorage: true})
	if err != nil {
		return nil, err
	}
	v := &vaultSide{server: server}
	if err := v.setUp(ctx); err != nil {
		return nil, errors.Join(err, v.stop())
	}
	return v, nil
}

func (v *vaultSide) stop() error { return v.server.Stop() }

// usage is what Vault and the engine's process have used so far.
type usage struct {
	processor time.Duration
	writes    uint64
}

func (v *vaultSide) usage(ctx context.Context) (u usage, err error) {
	for _, pid := range append(v.server.PluginPids(pluginName), v.server.Pid()) {
		used, err := processor(pid)
		if err != nil {
			return u, err
		}
		u.processor += used
	}
	u.writes, err = v.server.LastIndex(ctx)
	return u, err
}

func (v *vaultSide) setUp(ctx context.Context) error {
	health, err := v.server.Client().Sys().HealthWithContext(ctx)
	if err != nil {
		return err
	}
	v.version = health.Version
	if v.ampora, err = v.server.RegisterAmpora(ctx, apitype.DefaultMount); err != nil {
		return err
	}
	return errors.Join(v.setUpEngine(ctx), v.setUpBaseline(ctx))
}

// connect is a client with a token of its own. The library's transport keeps only a few idle connections, so that many in
// flight would measure the opening of connections.
func (v *vaultSide) connect(token string) (*api.Client, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, config.Error
	}
	transport := cleanhttp.DefaultPooledTransport()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 256
	config.Address, config.MaxRetries = v.server.Addr, 0
	config.HttpClient = &http.Client{Transport: transport, Timeout: time.Minute}
	c, err := api.NewClient(config)
	if err != nil {
		return nil, err
	}
	c.ClearNamespace()
	c.SetToken(token)
	return c, nil
}

// tokenFor makes a Vault token that may do what the policy says.
func (v *vaultSide) tokenFor(ctx context.Context, policy, text string) (string, error) {
	root := v.server.Client()
	if err := root.Sys().PutPolicyWithContext(ctx, policy, text); err != nil {
		return "", err
	}
	s, err := root.Auth().Token().CreateOrphanWithContext(ctx, &api.TokenCreateRequest{Policies: []string{policy}, NoDefaultPolicy: true, TTL: "24h"})
	if err != nil {
		return "", err
	}
	return s.Auth.ClientToken, nil
}

// edgeTokenFor makes a Vault token for edges of the mount.
func (v *vaultSide) edgeTokenFor(ctx context.Context, mount string) (string, error) {
	all, err := policies.All(mount)
	if err != nil {
		return "", err
	}
	for _, p := range all {
		if p.Role == policies.Edge {
			return v.tokenFor(ctx, p.Name, p.Text)
		}
	}
	return "", errors.New("there is no policy for edges")
}

func (v *vaultSide) setUpEngine(ctx context.Context) error {
	all, err := policies.All(apitype.DefaultMount)
	if err != nil {
		return err
	}
	clients := map[string]**client.Client{policies.Edge: &v.edge, policies.TokenIssuer: &v.issuer}
	for _, p := range all {
		into := clients[p.Role]
		if into == nil {
			continue
		}
		token, err := v.tokenFor(ctx, p.Name, p.Text)
		if err != nil {
			return err
		}
		c, err := v.connect(token)
		if err != nil {
			return err
		}
		*into = client.WithVault(c, apitype.DefaultMount)
		if p.Role == policies.Edge {
			v.edgeToken = token
		}
	}
	root, err := v.connect(v.server.RootToken)
	if err != nil {
		return err
	}
	v.operator = client.WithVault(root, apitype.DefaultMount)
	err = v.operator.UpdateConfig(ctx, map[string]any{"trust_domain": "bench.example", "endpoint": "wss://127.0.0.1:4320/v1/opamp"})
	if err != nil {
		return err
	}
	if _, err := v.operator.CARoot(ctx, apitype.CARootRequest{}); err != nil {
		return err
	}
	// Readable in the audit log as 'ampora setup' has it; this is what an idle edge's requests are made of.
	return root.Sys().TuneMountAllowNilWithContext(ctx, apitype.DefaultMount, api.TuneMountConfigInput{
		AuditNonHMACRequestKeys: &[]string{"since", "revision"}, AuditNonHMACResponseKeys: &[]string{"revision"},
	})
}

// setUpBaseline makes what one would put together from Vault's own engines: an AppRole with single-use secret IDs whose
// token may have a certificate signed, P-256 and stored as by default.
func (v *vaultSide) setUpBaseline(ctx context.Context) error {
	root := v.server.Client()
	if err := v.server.EnableAuth(ctx, "approle", "approle", ""); err != nil {
		return err
	}
	if err := v.server.EnableSecrets(ctx, "pki", "pki", ""); err != nil {
		return err
	}
	longest := "87600h"
	if err := root.Sys().TuneMountAllowNilWithContext(ctx, "pki", api.TuneMountConfigInput{MaxLeaseTTL: &longest}); err != nil {
		return err
	}
	if err := root.Sys().PutPolicyWithContext(ctx, "agent", `path "pki/sign/agent" { capabilities = ["update"] }`); err != nil {
		return err
	}
	for _, w := range []struct {
		path string
		data map[string]any
	}{
		{"pki/root/generate/internal", map[string]any{"common_name": "bench", "key_type": "ec", "key_bits": 256, "ttl": longest}},
		{"pki/roles/agent", map[string]any{
			"key_type": "ec", "key_bits": 256, "allow_any_name": true, "enforce_hostnames": false, "server_flag": false,
			"ttl": leafTTL.String(), "max_ttl": leafTTL.String(), "generate_lease": false, "no_store": false,
		}},
		{"auth/approle/role/agent", map[string]any{"secret_id_num_uses": 1, "secret_id_ttl": "24h", "token_ttl": "10m", "token_policies": "agent"}},
	} {
		if _, err := root.Logical().WriteWithContext(ctx, w.path, w.data); err != nil {
			return err
		}
	}
	role, err := root.Logical().ReadWithContext(ctx, "auth/approle/role/agent/role-id")
	if err != nil {
		return err
	}
	v.roleID, _ = role.Data["role_id"].(string)
	token, err := v.tokenFor(ctx, "creator", `path "auth/approle/role/agent/secret-id" { capabilities = ["update"] }`)
	if err != nil {
		return err
	}
	if v.creator, err = v.connect(token); err != nil {
		return err
	}
	v.bare, err = v.connect("")
	return err
}

// applicant is an agent before it has a certificate: its key and CSR, made before anything is timed, and its credentials.
type applicant struct {
	key      *ecdsa.PrivateKey
	csr      string
	token    string // of the engine
	secretID string // of AppRole
	identity *apitype.Identity
}

func newApplicant() (*applicant, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: uuid.NewString()}}, key)
	if err != nil {
		return nil, err
	}
	return &applicant{key: key, csr: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}, nil
}

func newApplicants(n int) ([]*applicant, error) {
	all := make([]*applicant, n)
	for i := range all {
		var err error
		if all[i], err = newApplicant(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// enrolled is the identity as the agents' process takes it.
func (a *applicant) enrolled() (identity, error) {
	block, _ := pem.Decode([]byte(a.identity.Certificate))
	if block == nil {
		return identity{}, errors.New("the certificate is no PEM")
	}
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	return identity{AgentID: a.identity.AgentID, Certificate: block.Bytes, Key: key}, err
}

// issue, check and redeem are the engine's calls, as an operator and an edge make them.

func (v *vaultSide) issue(ctx context.Context, a *applicant) error {
	t, err := v.issuer.IssueToken(ctx, apitype.TokenIssueRequest{})
	if err != nil {
		return err
	}
	a.token = t.Token
	return nil
}

const sourceIP = "192.0.2.1"

func (v *vaultSide) check(ctx context.Context, a *applicant) error {
	_, err := v.edge.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: a.token, SourceIP: sourceIP})
	return err
}

func (v *vaultSide) redeem(ctx context.Context, a *applicant) (err error) {
	a.identity, err = v.edge.Redeem(ctx, apitype.RedeemRequest{
		Token: a.token, CSR: a.csr, InstanceUID: uuid.NewString(), DisplayName: "host-1", SourceIP: sourceIP,
		Description:  `{"identifyingAttributes":[{"key":"service.name","value":{"stringValue":"io.opentelemetry.collector"}}]}`,
		Capabilities: 1 | apitype.CapabilityAcceptsOpAMP, IdempotencyKey: uuid.NewString(),
	})
	return err
}

func (v *vaultSide) enrol(ctx context.Context, a *applicant) error {
	if err := v.check(ctx, a); err != nil {
		return err
	}
	return v.redeem(ctx, a)
}

// secretID, login and sign are Vault's own.

func (v *vaultSide) newSecretID(ctx context.Context, a *applicant) error {
	var out struct {
		Data struct {
			SecretID string `json:"secret_id"`
		}
	}
	if err := send(ctx, v.creator, "", "auth/approle/role/agent/secret-id", map[string]any{}, &out); err != nil {
		return err
	}
	a.secretID = out.Data.SecretID
	return nil
}

func (v *vaultSide) login(ctx context.Context, a *applicant) (token string, err error) {
	var out struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		}
	}
	err = send(ctx, v.bare, "", "auth/approle/login", map[string]any{"role_id": v.roleID, "secret_id": a.secretID}, &out)
	return out.Auth.ClientToken, err
}

func (v *vaultSide) sign(ctx context.Context, token string, a *applicant) error {
	var out struct{ Data apitype.Identity } // the fields have the same names
	if err := send(ctx, v.bare, token, "pki/sign/agent", map[string]any{"csr": a.csr}, &out); err != nil {
		return err
	}
	if out.Data.Certificate == "" {
		return errors.New("pki answered no certificate")
	}
	return nil
}

func (v *vaultSide) loginAndSign(ctx context.Context, a *applicant) error {
	token, err := v.login(ctx, a)
	if err != nil {
		return err
	}
	return v.sign(ctx, token, a)
}

// send makes one request with as little of the client library as plugin/client uses.
func send(ctx context.Context, c *api.Client, token, path string, in, out any) error {
	r := c.NewRequest(http.MethodPut, "/v1/"+path)
	if token != "" {
		r.ClientToken = token
	}
	if err := r.SetJSONBody(in); err != nil {
		return err
	}
	//lint:ignore SA1019 the same call as plugin/client makes, so that both sides cost their client alike
	resp, err := c.RawRequestWithContext(ctx, r)
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return fmt.Errorf("%s: %s", path, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
