// Package client is the typed client of the Ampora secrets engine, bound to one mount. The edge, the command line, the
// tests and the benchmarks all use it.
//
// A refusal comes back as an *apitype.Error in the error chain; everything else (network, sealed Vault, a policy that
// says no) as the error of github.com/hashicorp/vault/api. The client never repeats a request by itself: whoever redeems
// decides that, with the same idempotency key.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ampora/ampora/plugin/apitype"
	vault "github.com/hashicorp/vault/api"
)

// Client talks to one mount. It is safe for concurrent use.
type Client struct {
	vault  *vault.Client
	mount  string
	tenant string
}

// New binds a client of Vault to a mount ("ampora" when empty). It takes a copy of the Vault client with retries switched
// off, but shares its token as it is when New is called; see WithVault for a client whose token changes.
func New(v *vault.Client, mount string) (*Client, error) {
	config := v.CloneConfig()
	config.MaxRetries = 0
	clone, err := vault.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	clone.SetToken(v.Token())
	clone.SetNamespace(v.Namespace())
	clone.SetHeaders(v.Headers())
	return WithVault(clone, mount), nil
}

// WithVault binds the given client itself, with the caller's choice of retries (0 is the one that is safe) and token.
func WithVault(v *vault.Client, mount string) *Client {
	if mount == "" {
		mount = apitype.DefaultMount
	}
	return &Client{vault: v, mount: mount}
}

// ForTenant is a client whose tenant-scoped calls go below tenants/<tenant>/. An empty tenant means none.
func (c *Client) ForTenant(tenant string) *Client {
	return &Client{vault: c.vault, mount: c.mount, tenant: tenant}
}

// Vault is the client of Vault underneath.
func (c *Client) Vault() *vault.Client { return c.vault }

// Mount is the path that the engine is mounted at.
func (c *Client) Mount() string { return c.mount }

func (c *Client) scoped(path string) string { return apitype.Scoped(c.tenant, path) }

// call sends one request and decodes the answer into out, when out is not nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	r := c.vault.NewRequest(method, "/v1/"+c.mount+"/"+path)
	for k, vs := range query {
		for _, v := range vs {
			r.Params.Add(k, v)
		}
	}
	if in != nil {
		if err := r.SetJSONBody(in); err != nil {
			return fmt.Errorf("client: %w", err)
		}
	}
	//lint:ignore SA1019 its successor WriteRawWithContext ends the context before the body has been read
	resp, err := c.vault.RawRequestWithContext(ctx, r)
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil {
		return restore(err)
	}
	if resp.StatusCode == http.StatusNoContent || out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("client: decoding the answer of %s: %w", path, err)
	}
	return nil
}

// restore puts the *apitype.Error back that Vault carried as text.
func restore(err error) error {
	var re *vault.ResponseError
	if !errors.As(err, &re) {
		return err
	}
	for _, text := range re.Errors {
		if e := apitype.ParseError(text); e != nil {
			return &Refusal{Err: e, Vault: re}
		}
	}
	return err
}

// Refusal joins what our catalogue says with the answer of Vault that carried it.
type Refusal struct {
	Err   *apitype.Error
	Vault *vault.ResponseError
}

func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap makes both reachable with errors.As.
func (r *Refusal) Unwrap() []error { return []error{r.Err, r.Vault} }

func pageQuery(p apitype.Page) url.Values {
	q := url.Values{}
	for k, v := range map[string]string{"after": p.After, "pool": p.Pool, "group": p.Group, "state": p.State} {
		if v != "" {
			q.Set(k, v)
		}
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

// answer is what Vault wraps data in.
type answer[T any] struct {
	Data *T `json:"data"`
}

func read[T any](ctx context.Context, c *Client, path string, query url.Values) (*T, error) {
	return ask[T](ctx, c, http.MethodGet, path, query, nil)
}

func write[T any](ctx context.Context, c *Client, path string, in any) (*T, error) {
	return ask[T](ctx, c, http.MethodPut, path, nil, in)
}

func ask[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (*T, error) {
	var out answer[T]
	if err := c.call(ctx, method, path, query, in, &out); err != nil {
		return nil, err
	}
	if out.Data == nil {
		return nil, fmt.Errorf("client: the answer of %s has no data", path)
	}
	return out.Data, nil
}
