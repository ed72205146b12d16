package federation

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ampora/ampora/edge/limits"
	"github.com/ampora/ampora/edge/listen"
	"github.com/ampora/ampora/edge/problem"
	"github.com/ampora/ampora/edge/vaultgate"
	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/hashicorp/go-hclog"
)

// jose is the media type of a compact JWS.
const jose = "application/jose"

// Bounds of what is remembered and let through.
const (
	maxReceipt        = 96 << 10 // bytes
	rememberedSources = 1 << 14
	badPerSecond      = 5 // receipts of one source that no pinned key has signed, before it hears nothing but 429
	badBurst          = 50
	peerPerSecond     = 200 // receipts of one peer, for a group of agents moves at once
	peerBurst         = 2000
	judgedAtOnce      = 4 // receipts whose signature is being checked
	judgedWait        = 5 * time.Second
)

// judge finds out whose a receipt is before Vault is asked, so that nobody but a peer costs a call to Vault. Vault judges
// again: a receipt signed by a key that the snapshot has not got yet comes again in a moment.
type judge struct {
	bad   *limits.Keyed[limits.Source]
	peers *limits.Keyed[string]
	// Checks take time, so few are made at once; sources that have sent many bad ones wait in a line of their own.
	places, badPlaces chan struct{}
}

func newJudge() *judge {
	return &judge{
		bad:    limits.NewKeyed[limits.Source](badPerSecond, badBurst, rememberedSources),
		peers:  limits.NewKeyed[string](peerPerSecond, peerBurst, rememberedSources),
		places: make(chan struct{}, judgedAtOnce), badPlaces: make(chan struct{}, 1),
	}
}

// sent is a receipt that a peer has signed.
type sent struct {
	peer   Peer
	claims handover.Receipt
}

// of says whose the receipt is.
func (j *judge) of(ctx context.Context, source limits.Source, compact string, view *View) (sent, error) {
	leave, err := j.queue(ctx, source)
	if err != nil {
		return sent{}, err
	}
	defer leave()
	out, err := verified(compact, view)
	switch {
	case err != nil && !j.bad.Allow(source):
		return sent{}, apitype.Errorf(apitype.RateLimited, "too many receipts from this address that count for nothing")
	case err != nil:
		return sent{}, err
	case !j.peers.Allow(out.peer.Name):
		return sent{}, apitype.Errorf(apitype.RateLimited, "too many receipts of this peer at once")
	}
	return out, nil
}

// queue waits for a place.
func (j *judge) queue(ctx context.Context, source limits.Source) (leave func(), err error) {
	places := j.places
	if j.bad.Spent(source) {
		places = j.badPlaces
	}
	ctx, cancel := context.WithTimeout(ctx, judgedWait)
	defer cancel()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, apitype.Errorf(apitype.RateLimited, "too many receipts wait to be checked")
	}
}

// verified reads a receipt that a pinned key of its peer has signed.
func verified(compact string, view *View) (sent, error) {
	var who handover.Receipt
	if err := handover.Unverified(compact, handover.TypeReceipt, &who); err != nil {
		return sent{}, err
	}
	for _, p := range view.Peers {
		if p.PeerID != who.Issuer {
			continue
		}
		out := sent{peer: p}
		return out, handover.Verify(compact, handover.TypeReceipt, p.Pinned, &out.claims)
	}
	return sent{}, apitype.Errorf(apitype.PeerUnknown, "no peer here has the peer_id that the receipt names")
}

// receipt takes a peer's receipt and gives back what Vault answers.
func (h *Handler) receipt(w http.ResponseWriter, r *http.Request) (outcome string) {
	if r.Method != http.MethodPost {
		return wrongMethod(w, http.MethodPost)
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != jose {
		problem.WriteStatus(w, http.StatusUnsupportedMediaType, "send the receipt as "+jose)
		return string(apitype.FieldInvalid)
	}
	compact, err := bodyOf(w, r)
	if err != nil {
		return h.refuse(w, r, sent{}, err)
	}
	view := h.View()
	if view == nil {
		return h.refuse(w, r, sent{}, apitype.Errorf(apitype.NotReady, "this edge has not heard of Vault yet"))
	}
	from, err := h.judge.of(r.Context(), limits.SourceOf(listen.Remote(r)), compact, view)
	if err != nil {
		return h.refuse(w, r, sent{}, err)
	}

	// Once a receipt is with Vault, what comes of it does not depend on whether the peer still waits.
	answer, err := h.Engine.Receipt(context.WithoutCancel(r.Context()), apitype.ReceiptRequest{Receipt: compact})
	if err != nil {
		return h.refuse(w, r, from, err)
	}
	h.Logger.Debug("receipt taken", "peer", from.peer.Name, "step", from.claims.Step, "handover_id", answer.HandoverID, "state", answer.State, "answer", answer.Step)
	w.Header().Set("Cache-Control", "no-store")
	if answer.Receipt == "" {
		w.WriteHeader(http.StatusNoContent)
		return served
	}
	w.Header().Set("Content-Type", jose)
	w.Header().Set("Content-Length", strconv.Itoa(len(answer.Receipt)))
	_, _ = io.WriteString(w, answer.Receipt) // the peer may be gone: it asks again
	return served
}

// bodyOf reads the document.
func bodyOf(w http.ResponseWriter, r *http.Request) (string, error) {
	tooLarge := apitype.Errorf(apitype.BodyTooLarge, "a receipt has at most %d bytes", maxReceipt)
	if r.ContentLength > maxReceipt {
		w.Header().Set("Connection", "close") // rather than read the rest
		return "", tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReceipt))
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return "", tooLarge
	}
	if err != nil {
		return "", apitype.Errorf(apitype.FieldInvalid, "the body did not arrive whole")
	}
	return strings.TrimSpace(string(body)), nil
}

// refuse answers with the problem document for an error. Of a receipt that nobody we know has signed nothing is logged but
// where it came from.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, from sent, err error) (outcome string) {
	var e *apitype.Error
	if !errors.As(err, &e) {
		h.Logger.Error("unexpected error", "error", err)
		e = apitype.Errorf(apitype.Internal, "")
	}
	if e.Code == apitype.OutcomeUnknown { // the receipt itself is the key by which it may come again
		e = apitype.Errorf(apitype.VaultUnavailable, "Vault gave no clear answer; the same receipt may come again")
	}
	remote := listen.Remote(r)
	h.Refused.Add(remote, err)
	fields := []any{"remote", remote, "code", e.Code, "error", vaultgate.Cause(err)}
	level := hclog.Info
	if from.peer.Name != "" {
		level = hclog.Warn
		fields = append(fields, "peer", from.peer.Name, "step", from.claims.Step, "handover_id", from.claims.HandoverID)
	}
	if problem.RetryAfter(e.Code) > 0 {
		level = hclog.Debug // many at once, and they come back
	}
	h.Logger.Log(level, "receipt refused", fields...)
	return refuse(w, e)
}
