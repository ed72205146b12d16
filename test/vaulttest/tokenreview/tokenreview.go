// Package tokenreview is the one corner of a Kubernetes API server that Vault's
// Kubernetes auth method calls: POST /apis/authentication.k8s.io/v1/tokenreviews,
// over TLS, for service-account tokens that it signs itself. Like the real one it
// looks at the signature, the times, the audience, and whether the service account
// still exists; and it answers only callers who show such a token themselves.
package tokenreview

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Issuer is the iss claim of every token.
const Issuer = "https://kubernetes.default.svc.cluster.local"

// maxBody bounds what the server reads of a request.
const maxBody = 1 << 20

// Server is a running API server.
type Server struct {
	URL string // https://127.0.0.1:port, for kubernetes_host
	CA  string // PEM, for kubernetes_ca_cert

	http   *httptest.Server
	key    *rsa.PrivateKey
	signer jose.Signer

	mu       sync.Mutex
	accounts map[account]string // to their uid
	reviews  int
}

type account struct{ namespace, name string }

func (a account) username() string { return "system:serviceaccount:" + a.namespace + ":" + a.name }

// claims are those of a projected service-account token.
type claims struct {
	jwt.Claims
	// Always a list, as Kubernetes writes it; the library makes one audience a string.
	Audience   []string `json:"aud,omitempty"`
	Kubernetes struct {
		Namespace      string `json:"namespace"`
		ServiceAccount struct {
			Name string `json:"name"`
			UID  string `json:"uid"`
		} `json:"serviceaccount"`
	} `json:"kubernetes.io"`
}

// Start starts a server; Close ends it.
func Start() (*Server, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "test"}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, err
	}
	s := &Server{key: key, signer: signer, accounts: map[account]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", s.review)
	s.http = httptest.NewTLSServer(mux)
	s.URL = s.http.URL
	s.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw}))
	return s, nil
}

// Close ends the server.
func (s *Server) Close() { s.http.Close() }

// Reviews returns how many reviews were asked for.
func (s *Server) Reviews() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reviews
}

// Token returns a token for a service account, which comes into being with its
// first token, good for the given time and audiences. A negative ttl makes one that
// has expired.
func (s *Server) Token(namespace, name string, ttl time.Duration, audiences ...string) (string, error) {
	a := account{namespace, name}
	s.mu.Lock()
	uid, ok := s.accounts[a]
	if !ok {
		uid = rand.Text()
		s.accounts[a] = uid
	}
	s.mu.Unlock()

	now := time.Now()
	var c claims
	c.Claims = jwt.Claims{
		Issuer:    Issuer,
		Subject:   a.username(),
		ID:        rand.Text(),
		IssuedAt:  jwt.NewNumericDate(now.Add(min(0, ttl) - time.Minute)),
		NotBefore: jwt.NewNumericDate(now.Add(min(0, ttl) - time.Minute)),
		Expiry:    jwt.NewNumericDate(now.Add(ttl)),
	}
	c.Audience = audiences
	c.Kubernetes.Namespace = namespace
	c.Kubernetes.ServiceAccount.Name = name
	c.Kubernetes.ServiceAccount.UID = uid
	return jwt.Signed(s.signer).Claims(c).Serialize()
}

// Delete removes a service account: its tokens are worthless from now on.
func (s *Server) Delete(namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.accounts, account{namespace, name})
}

// tokenReview is authentication.k8s.io/v1 TokenReview.
type tokenReview struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences,omitempty"`
	} `json:"spec"`
	Status struct {
		Authenticated bool     `json:"authenticated"`
		User          user     `json:"user"`
		Audiences     []string `json:"audiences,omitempty"`
		Error         string   `json:"error,omitempty"`
	} `json:"status"`
}

type user struct {
	Username string   `json:"username,omitempty"`
	UID      string   `json:"uid,omitempty"`
	Groups   []string `json:"groups,omitempty"`
}

func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.reviews++
	s.mu.Unlock()

	caller, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, _, problem := s.check(caller); !ok || problem != "" {
		reply(w, http.StatusUnauthorized, map[string]any{
			"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Unauthorized", "message": "Unauthorized", "code": http.StatusUnauthorized,
		})
		return
	}
	var review tokenReview
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&review); err != nil {
		reply(w, http.StatusBadRequest, map[string]any{
			"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "BadRequest", "message": err.Error(), "code": http.StatusBadRequest,
		})
		return
	}
	review.APIVersion, review.Kind = "authentication.k8s.io/v1", "TokenReview"

	u, audiences, problem := s.check(review.Spec.Token)
	if problem == "" && len(review.Spec.Audiences) > 0 {
		audiences = slices.DeleteFunc(audiences, func(a string) bool { return !slices.Contains(review.Spec.Audiences, a) })
		if len(audiences) == 0 {
			problem = "token audiences do not match"
		}
	}
	if problem != "" {
		review.Status.Error = problem
	} else {
		review.Status.Authenticated, review.Status.User, review.Status.Audiences = true, u, audiences
	}
	reply(w, http.StatusCreated, review)
}

// check says whom a token belongs to, or else what is wrong with it.
func (s *Server) check(token string) (u user, audiences []string, problem string) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return user{}, nil, "not a token"
	}
	var c claims
	if err := parsed.Claims(&s.key.PublicKey, &c); err != nil {
		return user{}, nil, "the signature is invalid"
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: Issuer, Time: time.Now()}, 0); err != nil {
		return user{}, nil, err.Error()
	}
	a := account{c.Kubernetes.Namespace, c.Kubernetes.ServiceAccount.Name}
	s.mu.Lock()
	uid, ok := s.accounts[a]
	s.mu.Unlock()
	if !ok || uid != c.Kubernetes.ServiceAccount.UID {
		return user{}, nil, "the service account has been deleted"
	}
	return user{
		Username: a.username(),
		UID:      uid,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + a.namespace, "system:authenticated"},
	}, c.Audience, ""
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller has gone if this fails
}
