package vaultgate

import (
	"fmt"
	"net/http"
	"time"

	vaultapi "github.com/hashicorp/vault/api"
)

// connect makes two clients of one Vault over one transport: calls, whose token changes over time, and bare, which never
// holds one and logs in.
func connect(config *vaultapi.Config) (calls, bare *vaultapi.Client, err error) {
	if config == nil {
		config = vaultapi.DefaultConfig()
	}
	if config.Error != nil {
		return nil, nil, fmt.Errorf("vaultgate: reading the VAULT_* variables: %w", config.Error)
	}
	// The library repeats what got a 5xx, also a redemption. Whether to ask again is decided here, call by call.
	config.MaxRetries = 0
	if config.HttpClient == nil {
		config.HttpClient = vaultapi.DefaultConfig().HttpClient
	}
	client := *config.HttpClient
	client.Transport = tuned(client.Transport)
	// A standby redirects to the active node; the library follows once and keeps the token's header, net/http must not.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	config.HttpClient = &client

	for _, c := range []**vaultapi.Client{&calls, &bare} {
		v, err := vaultapi.NewClient(config)
		if err != nil {
			return nil, nil, fmt.Errorf("vaultgate: %w", err)
		}
		// NewClient has taken VAULT_TOKEN, which is for the token method alone.
		v.ClearToken()
		// VAULT_WRAP_TTL is for people at a shell: here it would wrap every answer.
		v.SetWrappingLookupFunc(func(string, string) string { return "" })
		*c = v
	}
	return calls, bare, nil
}

// tuned is a transport like base, with enough idle connections for all slots and with checks that notice a dead Vault
// behind a live connection. A foreign http.RoundTripper is left as it is.
func tuned(base http.RoundTripper) http.RoundTripper {
	from, ok := base.(*http.Transport)
	if !ok {
		return base
	}
	t := &http.Transport{
		Proxy:                 from.Proxy,
		DialContext:           from.DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   128,
		IdleConnTimeout:       90 * time.Second,
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
	if from.TLSClientConfig != nil {
		t.TLSClientConfig = from.TLSClientConfig.Clone()
	}
	return t
}
