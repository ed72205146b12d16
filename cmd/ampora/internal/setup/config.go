package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/plugin/apitype"
)

// config writes the fields that differ from what is wanted.
func (s *setup) config(ctx context.Context) error {
	wanted, err := s.wanted()
	if err != nil || len(wanted) == 0 {
		return err
	}
	now, err := s.fields(ctx)
	if err != nil {
		return err
	}
	changes := map[string]any{}
	for name, text := range wanted {
		have, known := now[name]
		if !known {
			return hint.New(fmt.Sprintf("there is no field %q in %s/config", name, s.o.Mount), "'vault path-help "+s.o.Mount+"/config' lists them")
		}
		value, err := parse(have, text)
		if err != nil {
			return hint.Wrap(fmt.Errorf("--config %s: %w", name, err), "durations read like 24h or 3600, lists like a,b")
		}
		if !reflect.DeepEqual(normal(have), normal(value)) {
			changes[name] = value
		}
	}
	names := keys(changes)
	if len(changes) == 0 {
		s.kept("%s/config: %s", s.o.Mount, strings.Join(keys(wanted), ", "))
		return nil
	}
	if err := s.engine.UpdateConfig(ctx, changes); err != nil {
		return fmt.Errorf("writing %s/config: %w", s.o.Mount, err)
	}
	s.did("%s/config: %s", s.o.Mount, strings.Join(names, ", "))
	return nil
}

// wanted gathers the fields of the command line as text.
func (s *setup) wanted() (map[string]string, error) {
	wanted := map[string]string{}
	for name, value := range s.o.Config {
		if file, isFile := strings.CutPrefix(value, "@"); isFile {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("--config %s: %w", name, err)
			}
			value = string(data)
		}
		wanted[name] = value
	}
	for name, value := range map[string]string{"peer_id": s.o.PeerID, "trust_domain": s.o.TrustDomain, "endpoint": s.o.Endpoint} {
		if value != "" {
			wanted[name] = value
		}
	}
	return wanted, nil
}

// fields is the configuration as it is, by field name.
func (s *setup) fields(ctx context.Context) (map[string]any, error) {
	secret, err := s.vault.Logical().ReadWithContext(ctx, s.o.Mount+"/"+apitype.PathConfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s/config: %w", s.o.Mount, err)
	}
	if secret == nil {
		return nil, fmt.Errorf("%s/config cannot be read", s.o.Mount)
	}
	return secret.Data, nil
}

// parse reads text as a value of the kind that the field has now.
func parse(have any, text string) (any, error) {
	switch have.(type) {
	case json.Number:
		if d, err := time.ParseDuration(text); err == nil {
			return int64(d / time.Second), nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return text, nil // such as 90d: the engine reads more spellings than Go
		}
		return n, nil
	case bool:
		return strconv.ParseBool(text)
	case []any:
		if text == "" {
			return []string{}, nil
		}
		return strings.Split(text, ","), nil
	}
	return text, nil
}

// normal makes values comparable that mean the same.
func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case int64:
		return strconv.FormatInt(v, 10)
	case string:
		if days, isDays := strings.CutSuffix(v, "d"); isDays {
			if n, err := strconv.ParseInt(days, 10, 32); err == nil {
				return strconv.FormatInt(n*24*3600, 10)
			}
		}
		return strings.TrimSpace(v)
	case []string:
		return strings.Join(v, ",")
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, fmt.Sprint(e))
		}
		return strings.Join(all, ",")
	}
	return v
}

func keys[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return slices.Clip(names)
}
