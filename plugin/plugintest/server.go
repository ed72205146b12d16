// Package plugintest serves the real engine on storage in memory behind the part of Vault's HTTP API that its callers use.
// It is for fast tests of whoever calls the engine: nothing of the engine is replaced, only Vault around it is small.
// What depends on Vault itself (policies, audit devices, seals, crashes) is tested against a real one, see test/vaulttest.
package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	ampora "github.com/ampora/ampora/plugin"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	vault "github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
)

// Server is one mount at apitype.DefaultMount.
type Server struct {
	URL     string
	Token   string // the one Vault token that it knows
	Storage logical.Storage
	Backend logical.Backend

	http *httptest.Server
	away atomic.Bool
}

// Option changes how a Server is made.
type Option func(*options)

type options struct {
	storage logical.Storage
	logger  hclog.Logger
}

// WithStorage puts the engine on the given storage, such as one that fails.
func WithStorage(s logical.Storage) Option { return func(o *options) { o.storage = s } }

// WithLogger hears what the engine logs.
func WithLogger(l hclog.Logger) Option { return func(o *options) { o.logger = l } }

// Start starts a Server that ends with the test.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	o := options{storage: &logical.InmemStorage{}, logger: hclog.NewNullLogger()}
	for _, opt := range opts {
		opt(&o)
	}
	config := &logical.BackendConfig{
		StorageView: o.storage, Logger: o.logger, System: logical.TestSystemView(), BackendUUID: uuid.NewString(),
	}
	backend, err := ampora.Factory(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if err := backend.Initialize(t.Context(), &logical.InitializationRequest{Storage: o.storage}); err != nil {
		t.Fatal(err)
	}
	s := &Server{Token: "hvs." + uuid.NewString(), Storage: o.storage, Backend: backend}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	s.URL = s.http.URL
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
		backend.Cleanup(context.Background())
	})
	return s
}

// Client is a client of the mount with the server's token.
func (s *Server) Client(t testing.TB) *client.Client {
	t.Helper()
	config := vault.DefaultConfig()
	config.Address = s.URL
	v, err := vault.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	v.SetToken(s.Token)
	c, err := client.New(v, apitype.DefaultMount)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Configure makes the mount ready to enrol agents: a trust domain, the endpoint, names for edges on loopback, and a CA.
func (s *Server) Configure(t testing.TB, endpoint string) {
	t.Helper()
	c := s.Client(t)
	if err := c.UpdateConfig(t.Context(), map[string]any{
		"peer_id": "test", "trust_domain": "test.example", "endpoint": endpoint, "edge_allowed_domains": []string{"localhost", "127.0.0.1"},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CARoot(t.Context(), apitype.CARootRequest{}); err != nil {
		t.Fatal(err)
	}
}

// SetAway makes every request fail as a sealed Vault would (503), or ends that.
func (s *Server) SetAway(away bool) { s.away.Store(away) }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.away.Load() {
		respond(w, http.StatusServiceUnavailable, map[string]any{"errors": []string{"Vault is sealed"}})
		return
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	rest, ours := strings.CutPrefix(path, apitype.DefaultMount+"/")
	if !ours {
		s.serveVault(w, r, path)
		return
	}
	req := &logical.Request{
		ID: uuid.NewString(), Path: rest, MountPoint: apitype.DefaultMount + "/", Storage: s.Storage,
		Connection: &logical.Connection{RemoteAddr: "127.0.0.1"},
	}
	if r.Header.Get("X-Vault-Token") == s.Token {
		req.DisplayName = "token"
	} else if !s.unauthenticated(rest) {
		respond(w, http.StatusForbidden, map[string]any{"errors": []string{"permission denied"}})
		return
	}
	switch {
	case r.Method == "LIST" || r.Method == http.MethodGet && r.URL.Query().Get("list") == "true":
		req.Operation = logical.ListOperation
		req.Path = strings.TrimSuffix(rest, "/") + "/"
	case r.Method == http.MethodGet:
		req.Operation = logical.ReadOperation
		req.Data = map[string]any{}
		for k, v := range r.URL.Query() {
			req.Data[k] = v[0]
		}
	case r.Method == http.MethodDelete:
		req.Operation = logical.DeleteOperation
	default:
		req.Operation = logical.UpdateOperation
		decoder := json.NewDecoder(r.Body)
		decoder.UseNumber()
		if err := decoder.Decode(&req.Data); err != nil && r.ContentLength != 0 {
			respond(w, http.StatusBadRequest, map[string]any{"errors": []string{"error parsing JSON"}})
			return
		}
		found, exists, err := s.Backend.HandleExistenceCheck(r.Context(), req)
		if err != nil && !errors.Is(err, logical.ErrUnsupportedPath) {
			respond(w, http.StatusInternalServerError, map[string]any{"errors": []string{"internal error"}})
			return
		}
		if found && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	resp, err := s.Backend.HandleRequest(r.Context(), req)
	if s.away.Load() { // a poll that was waiting is no sign of life
		respond(w, http.StatusServiceUnavailable, map[string]any{"errors": []string{"Vault is sealed"}})
		return
	}
	if status, shown := logical.RespondErrorCommon(req, resp, err); status != 0 {
		respondError(w, req, status, err, shown)
		return
	}
	switch {
	case resp == nil:
		w.WriteHeader(http.StatusNoContent)
	case resp.Data[logical.HTTPRawBody] != nil:
		w.Header().Set("Content-Type", resp.Data[logical.HTTPContentType].(string))
		if control, ok := resp.Data[logical.HTTPCacheControlHeader].(string); ok {
			w.Header().Set("Cache-Control", control)
		}
		_, _ = w.Write(resp.Data[logical.HTTPRawBody].([]byte))
	default:
		respond(w, http.StatusOK, map[string]any{"request_id": req.ID, "data": resp.Data, "warnings": resp.Warnings})
	}
}

// respondError answers an error as Vault does: a coded error has its own status, and its text arrives in a list where the
// request had a token.
func respondError(w http.ResponseWriter, req *logical.Request, status int, err, shown error) {
	texts := []string{}
	if shown != nil {
		logical.AdjustErrorStatusCode(&status, shown)
		texts = append(texts, shown.Error())
	}
	if err != nil && req.DisplayName != "" {
		texts[0] = "1 error occurred:\n\t* " + texts[0] + "\n\n"
	}
	respond(w, status, map[string]any{"errors": texts})
}

// serveVault answers the few calls with which a client minds its own token.
func (s *Server) serveVault(w http.ResponseWriter, r *http.Request, path string) {
	known := r.Header.Get("X-Vault-Token") == s.Token
	switch {
	case path == "sys/health":
		respond(w, http.StatusOK, map[string]any{"initialized": true, "sealed": false, "standby": false})
	case !known:
		respond(w, http.StatusForbidden, map[string]any{"errors": []string{"permission denied"}})
	case path == "auth/token/lookup-self":
		respond(w, http.StatusOK, map[string]any{"data": map[string]any{"id": s.Token, "ttl": 0, "renewable": false, "policies": []string{"root"}}})
	case path == "auth/token/renew-self":
		respond(w, http.StatusOK, map[string]any{"auth": map[string]any{"client_token": s.Token, "lease_duration": 0, "renewable": false}})
	default:
		respond(w, http.StatusNotFound, map[string]any{"errors": []string{}})
	}
}

func (s *Server) unauthenticated(path string) bool {
	return slices.ContainsFunc(s.Backend.SpecialPaths().Unauthenticated, func(special string) bool { return covers(special, path) })
}

// covers reports whether a special path of Vault's kind is about the path: + stands for one segment, a last * for anything.
func covers(special, path string) bool {
	wanted, given := strings.Split(special, "/"), strings.Split(path, "/")
	for n, segment := range wanted {
		switch {
		case n == len(wanted)-1 && strings.HasSuffix(segment, "*"):
			return n < len(given) && strings.HasPrefix(strings.Join(given[n:], "/"), strings.TrimSuffix(segment, "*"))
		case n >= len(given) || segment != "+" && segment != given[n]:
			return false
		}
	}
	return len(wanted) == len(given)
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
