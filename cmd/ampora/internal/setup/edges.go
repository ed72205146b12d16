package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/scripts/policies"
	vault "github.com/hashicorp/vault/api"
)

// edges makes one AppRole per edge: one Vault identity each, so that one can be ended without the others.
func (s *setup) edges(ctx context.Context) error {
	if len(s.o.Edge) == 0 {
		return nil
	}
	if err := s.appRole(ctx); err != nil {
		return err
	}
	for _, name := range s.o.Edge {
		if err := s.edge(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// appRole enables the auth method.
func (s *setup) appRole(ctx context.Context) error {
	mounts, err := s.vault.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return err
	}
	at, there := mounts[s.o.AppRolePath+"/"]
	switch {
	case !there:
		if err := s.vault.Sys().EnableAuthWithOptionsWithContext(ctx, s.o.AppRolePath, &vault.EnableAuthOptions{Type: "approle"}); err != nil {
			return fmt.Errorf("enabling AppRole: %w", err)
		}
		s.did("auth/%s/ is enabled", s.o.AppRolePath)
	case at.Type != "approle":
		return hint.New(fmt.Sprintf("at auth/%s/ there is a method of type %s", s.o.AppRolePath, at.Type), "choose another place with --approle-path")
	default:
		s.kept("auth/%s/ is enabled", s.o.AppRolePath)
	}
	return nil
}

func (s *setup) rolePath(edge string) string {
	return "auth/" + s.o.AppRolePath + "/role/" + policies.Name(s.o.Mount, policies.Edge) + "-" + edge
}

// edge writes the role's settings that differ.
func (s *setup) edge(ctx context.Context, name string) error {
	cidrs := make([]any, 0, len(s.o.EdgeBoundCIDRs))
	for _, cidr := range s.o.EdgeBoundCIDRs {
		cidrs = append(cidrs, cidr)
	}
	wanted := map[string]any{
		"bind_secret_id":          true,
		"token_policies":          []any{policies.Name(s.o.Mount, policies.Edge)},
		"token_no_default_policy": true, // the edge's policy has what it needs of it
		"token_ttl":               json.Number(fmt.Sprint(int64(s.o.EdgeTokenTTL / time.Second))),
		"token_max_ttl":           json.Number(fmt.Sprint(int64(s.o.EdgeTokenMax / time.Second))),
		"token_bound_cidrs":       cidrs,
		"secret_id_bound_cidrs":   cidrs,
	}
	path := s.rolePath(name)
	role, err := s.vault.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return fmt.Errorf("reading the role of edge %s: %w", name, err)
	}
	if role != nil && covers(role.Data, wanted) {
		s.kept("%s", path)
	} else {
		if _, err := s.vault.Logical().WriteWithContext(ctx, path, wanted); err != nil {
			return fmt.Errorf("writing the role of edge %s: %w", name, err)
		}
		s.did("%s", path)
	}
	if s.o.CredentialsDir == "" {
		return nil
	}
	return s.credentials(ctx, name)
}

// covers reports whether every wanted setting is as it should be.
func covers(have, wanted map[string]any) bool {
	for name, want := range wanted {
		h := have[name]
		if list, isList := want.([]any); isList && len(list) == 0 {
			if l, _ := h.([]any); len(l) != 0 {
				return false
			}
			continue
		}
		if list, isList := h.([]any); isList && strings.HasSuffix(name, "cidrs") {
			h = withLengths(list)
			want = withLengths(want.([]any)) // written so above
		}
		if !reflect.DeepEqual(h, want) {
			return false
		}
	}
	return true
}

// withLengths spells single addresses as Vault may answer them: without the length of their prefix.
func withLengths(cidrs []any) []any {
	out := make([]any, 0, len(cidrs))
	for _, c := range cidrs {
		text := fmt.Sprint(c)
		text = strings.TrimSuffix(text, "/32")
		out = append(out, strings.TrimSuffix(text, "/128"))
	}
	return out
}
