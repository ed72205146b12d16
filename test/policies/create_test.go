package policies_test

import (
	"strings"
	"testing"

	"github.com/ampora/ampora/test/vaulttest"
)

// TestMakingAndChangingAreTwoCapabilities holds that Vault is told which of the two a write is, also when a field is wrong.
func TestMakingAndChangingAreTwoCapabilities(t *testing.T) {
	v := vaulttest.Start(t)
	ready(t, v)
	maker := holder(t, v, `path "ampora/*" { capabilities = ["create"] }`)
	changer := holder(t, v, `# one that may change
path "ampora/*" { capabilities = ["update"] }`)
	type fields = map[string]any
	odd := fields{"marker": "marker"}
	issuer, err := v.Client().Logical().WriteWithContext(t.Context(), "ampora/ca/root", nil)
	if err != nil {
		t.Fatal(err)
	}
	peer := fields{"peer_id": "eu", "trust_domain": "eu.example", "endpoint": "wss://eu.example/v1/opamp", "ca_bundle": issuer.Data["certificate"]}
	for path, body := range map[string]struct{ good, bad fields }{
		"groups/web":                       {fields{}, fields{"description": odd}},
		"configurations/base":              {fields{"body": "one"}, fields{"body": odd}},
		"pools/ci":                         {fields{}, fields{"max_outstanding": "marker"}},
		"peers/eu":                         {peer, fields{"allowed_groups": odd}},
		"tenants/acme/groups/web":          {fields{"description": "one"}, fields{"configuration": odd}},
		"tenants/acme/configurations/base": {fields{"body": "one"}, fields{"content_type": odd}},
		"tenants/acme/pools/ci":            {fields{"leaf_ttl": "1h"}, fields{"leaf_ttl": "marker"}},
	} {
		path = "ampora/" + path
		_, err := changer.Logical().WriteWithContext(t.Context(), path, body.good)
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("who may only change makes %s: %v", path, err)
		}
		_, err = maker.Logical().WriteWithContext(t.Context(), path, body.bad)
		if err == nil || !strings.Contains(err.Error(), "field_invalid") || strings.Contains(err.Error(), "marker") {
			t.Errorf("%s with a field of the wrong type: %v", path, err)
		}
		if _, err = maker.Logical().WriteWithContext(t.Context(), path, body.good); err != nil {
			t.Errorf("who may make %s: %v", path, err)
		}
		_, err = maker.Logical().WriteWithContext(t.Context(), path, body.good)
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("who may only make changes %s: %v", path, err)
		}
		if _, err = changer.Logical().WriteWithContext(t.Context(), path, body.good); err != nil {
			t.Errorf("who may change %s: %v", path, err)
		}
	}
}
