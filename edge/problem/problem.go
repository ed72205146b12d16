// Package problem writes the edge's refusals over HTTP: RFC 9457 problem documents whose type ends in the code of the
// error catalogue (DESIGN.md section 11).
package problem

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
)

// TypePrefix stands before the code in a document's type.
const TypePrefix = "urn:ampora:error:"

// ContentType is the media type of a problem document.
const ContentType = "application/problem+json"

// Document is one problem document.
type Document struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

// Of is the document for an error of the catalogue.
func Of(e *apitype.Error) Document {
	detail := e.Code.Next()
	if e.Detail != "" {
		detail = e.Detail + ": " + detail
	}
	return Document{
		Type:   TypePrefix + string(e.Code),
		Title:  strings.ReplaceAll(string(e.Code), "_", " "),
		Status: e.Code.EdgeStatus(),
		Detail: detail,
	}
}

// Retry spans: the least wait, doubled at most by the spread.
const (
	retryBusy        = 5 * time.Second  // 429
	retryUnavailable = 15 * time.Second // 503
)

// RetryAfter is when to come again with what was refused by this code, zero when that would change nothing. It is spread
// out, since clients do not spread their own: they honour it to the millisecond.
func RetryAfter(code apitype.Code) time.Duration {
	switch code.EdgeStatus() {
	case http.StatusTooManyRequests:
		return spread(retryBusy)
	case http.StatusServiceUnavailable:
		return spread(retryUnavailable)
	}
	return 0
}

// spread is between d and twice d.
func spread(d time.Duration) time.Duration { return d + rand.N(d) }

// Write answers with the document for e. retryAfter is sent in whole seconds, rounded up, when it is positive. A 401
// carries the challenge that RFC 9110 section 15.5.2 demands.
func Write(w http.ResponseWriter, e *apitype.Error, retryAfter time.Duration) {
	Of(e).Write(w, retryAfter)
}

// Write answers with the document; see the function of the same name.
func (doc Document) Write(w http.ResponseWriter, retryAfter time.Duration) {
	if retryAfter > 0 {
		seconds := int64((retryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if doc.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="ampora"`)
	}
	write(w, doc)
}

// WriteStatus answers with a document for a plain HTTP status that no code of the catalogue stands for (404, 405).
func WriteStatus(w http.ResponseWriter, status int, detail string) {
	write(w, Document{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail})
}

func write(w http.ResponseWriter, doc Document) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)                // for people at a shell: <pool> and not \u003cpool\u003e
	if err := encoder.Encode(doc); err != nil { // strings and a number: cannot happen
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	body := bytes.TrimSpace(text.Bytes())
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Del("Content-Encoding")
	w.WriteHeader(doc.Status)
	_, _ = w.Write(body) // the peer may be gone: nobody is left to tell
}
