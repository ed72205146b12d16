package pki

import (
	"bytes"
	"fmt"
	"net/http"
	"time"
)

// document is something that caches may keep.
type document struct {
	body        []byte
	contentType string
	etag        string    // strong, without quotes
	modified    time.Time // zero: not said
	fresh       time.Duration
	expires     time.Time // zero: not said
}

// write answers a GET or HEAD. Whether the client has it already is decided by the ETag alone: Last-Modified counts whole
// seconds, and a revocation may follow the list before it within one.
func (d document) write(w http.ResponseWriter, r *http.Request) (outcome string) {
	h := w.Header()
	h.Set("Content-Type", d.contentType)
	h.Set("ETag", `"`+d.etag+`"`)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d, no-transform, must-revalidate", max(int64(d.fresh/time.Second), 0)))
	if !d.modified.IsZero() {
		h.Set("Last-Modified", d.modified.UTC().Format(http.TimeFormat))
	}
	if !d.expires.IsZero() {
		h.Set("Expires", d.expires.UTC().Format(http.TimeFormat))
	}
	seen := &statusWriter{ResponseWriter: w}
	http.ServeContent(seen, r, "", time.Time{}, bytes.NewReader(d.body))
	if seen.status == http.StatusNotModified {
		return notModified
	}
	return served
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// aMinute is how long caches may keep what is good for longer, but of which Vault would have newer if it were not away.
const aMinute = time.Minute

// freshFor is how long a cache may keep what this edge replaces at refresh, and serves until expires.
func freshFor(refresh, expires, now time.Time) time.Duration {
	if fresh := refresh.Sub(now); fresh > 0 {
		return fresh
	}
	return min(aMinute, expires.Sub(now))
}

// left is how long what is valid between two times of Vault's clock may still be used here. It is never more than the whole
// of it, however far this edge's clock is behind, and not positive when it is ahead of the end.
func left(from, to, now time.Time) time.Duration { return min(to.Sub(now), to.Sub(from)) }
