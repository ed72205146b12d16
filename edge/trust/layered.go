package trust

import (
	"iter"
	"maps"
)

// layered is an immutable map. As with revokedSet, a change must not copy what is large: the newest entries lie in a small
// layer of their own, which is folded into the large one when it has grown.
type layered[K comparable, V any] struct {
	base   map[K]V
	recent map[K]change[V]
	n      int
}

// change is what a layer says of a key: a value, or that there is none any more.
type change[V any] struct {
	value V
	gone  bool
}

func (l layered[K, V]) get(key K) (V, bool) {
	if c, found := l.recent[key]; found {
		return c.value, !c.gone
	}
	v, found := l.base[key]
	return v, found
}

func (l layered[K, V]) len() int { return l.n }

// all are the entries, in no order.
func (l layered[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for key, c := range l.recent {
			if !c.gone && !yield(key, c.value) {
				return
			}
		}
		for key, v := range l.base {
			if _, newer := l.recent[key]; !newer && !yield(key, v) {
				return
			}
		}
	}
}

// with is the map after the changes.
func (l layered[K, V]) with(changes map[K]change[V]) layered[K, V] {
	if len(changes) == 0 {
		return l
	}
	next := layered[K, V]{base: l.base, n: l.n}
	for key, c := range changes {
		_, had := l.get(key)
		switch {
		case had && c.gone:
			next.n--
		case !had && !c.gone:
			next.n++
		}
	}
	if len(l.recent)+len(changes) <= foldAt {
		next.recent = make(map[K]change[V], len(l.recent)+len(changes))
		maps.Copy(next.recent, l.recent)
		maps.Copy(next.recent, changes)
		return next
	}
	next.base = make(map[K]V, next.n)
	maps.Copy(next.base, l.base)
	for _, layer := range []map[K]change[V]{l.recent, changes} {
		for key, c := range layer {
			if c.gone {
				delete(next.base, key)
			} else {
				next.base[key] = c.value
			}
		}
	}
	return next
}
