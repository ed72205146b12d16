// Package inspect tells offline what a bootstrap token, a pool's admin secret, a certificate, a key or a bundle of these is,
// or a document of a peer (a handover token, a receipt, its bundle), and whether it was copied intact. It never shows a secret, neither whole nor in part.
package inspect

import (
	"bytes"
	"time"

	"github.com/ampora/ampora/plugin/handover"
)

// Report is what was found in one input.
type Report struct {
	Items []Item `json:"items"`
}

// Item is one thing found.
type Item struct {
	// Kind says what it is; see the constants.
	Kind string `json:"kind"`
	// Intact is false for what cannot be used as it is; Problem then says why and Guesses what may have happened.
	Intact  bool     `json:"intact"`
	Problem string   `json:"problem,omitempty"`
	Guesses []string `json:"guesses,omitempty"`
	// File is where it lay, when a directory was inspected.
	File string `json:"file,omitempty"`
	// Fields are facts in the order of their telling.
	Fields Fields `json:"fields,omitempty"`
}

// Kinds of items.
const (
	KindBootstrapToken = "bootstrap token"
	KindPoolSecret     = "pool admin secret"
	KindAgentCert      = "agent certificate"
	KindEdgeCert       = "edge certificate"
	KindIssuerCert     = "issuer certificate"
	KindForeignCert    = "certificate of another installation"
	KindPrivateKey     = "private key"
	KindRequest        = "certificate request"
	KindHandoverToken  = "handover token"
	KindHandoverFile   = "handover file"
	KindReceipt        = "receipt of a handover"
	KindBundle         = "bundle of a peer"
	KindUnknown        = "unknown"
)

// Intact reports whether everything found can be used.
func (r Report) Intact() bool {
	for _, item := range r.Items {
		if !item.Intact {
			return false
		}
	}
	return len(r.Items) > 0
}

// Inspect looks at data as it stands at now. What a peer has signed is checked with its keys, where they are given.
func Inspect(data []byte, now time.Time, peer ...handover.PeerKeys) Report {
	l := look{now: now}
	if len(peer) > 0 {
		l.peer = &peer[0]
	}
	if isHandoverFile(data) {
		return Report{Items: []Item{fileItem(data, l)}}
	}
	if item, found := inspectDocument(data, l); found {
		return Report{Items: []Item{item}}
	}
	if bytes.Contains(data, []byte("-----BEGIN")) {
		return Report{Items: inspectPEM(data, now)}
	}
	return Report{Items: []Item{inspectSecret(string(data))}}
}
