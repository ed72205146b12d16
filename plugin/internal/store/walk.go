package store

import (
	"context"
	"sort"
	"strings"
)

// Walk calls visit with every id below a sharded prefix in ascending order, beginning after the id 'after', until visit
// answers false or an error.
func (s *Store) Walk(ctx context.Context, prefix, after string, visit func(id string) (bool, error)) error {
	shards, err := s.List(ctx, prefix)
	if err != nil {
		return err
	}
	sort.Strings(shards)
	for _, shard := range shards {
		if len(after) >= 2 && strings.TrimSuffix(shard, "/") < after[:2] {
			continue
		}
		ids, err := s.List(ctx, prefix+shard)
		if err != nil {
			return err
		}
		sort.Strings(ids)
		for _, id := range ids {
			if id <= after {
				continue
			}
			more, err := visit(id)
			if err != nil || !more {
				return err
			}
		}
	}
	return nil
}
