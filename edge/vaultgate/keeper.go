package vaultgate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/hashicorp/go-hclog"
	vaultapi "github.com/hashicorp/vault/api"
	"golang.org/x/sync/singleflight"
)

const (
	loginTimeout  = 15 * time.Second // of one login, renewal or lookup
	revokeTimeout = 3 * time.Second
	// loginPatience is how long a call waits for a login that is under way.
	loginPatience = 5 * time.Second
	// checkFor is how long a token counts as alive after a lookup: a policy that says no must not cost a lookup a call.
	checkFor = 5 * time.Second
	// pollSource is how often the files with credentials are read again.
	pollSource = 2 * time.Second
	// steady is how long a token must have lived for the next login to come without a pause.
	steady = 10 * time.Second

	firstPause   = 250 * time.Millisecond
	longestPause = 30 * time.Second
)

// keeper logs in and keeps the login alive. Its run is the only writer of the token; everybody else asks current, and
// tells refused when Vault did not take it.
type keeper struct {
	method  method
	calls   *vaultapi.Client // is given the token
	bare    *vaultapi.Client // holds none
	log     hclog.Logger
	metrics *metrics

	wake   chan struct{} // the token was dropped
	checks singleflight.Group

	mu      sync.Mutex
	held    lease         // the token in use, if have
	have    bool          //
	number  uint64        // of the token: it rises with every new one
	since   time.Time     // when the token was got
	until   time.Time     // when it ends; zero = never
	checked time.Time     // when a lookup last found it alive
	attempt chan struct{} // closed when the login under way ends; nil when there is none
	err     error         // why there is no token, when no login is under way
}

func newKeeper(m method, calls, bare *vaultapi.Client, log hclog.Logger, metrics *metrics) *keeper {
	return &keeper{
		method: m, calls: calls, bare: bare, log: log, metrics: metrics, wake: make(chan struct{}, 1),
		err: errors.New("the gate is not started"),
	}
}

// begin announces the first login, so that calls from now on wait for it.
func (k *keeper) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.attempt = make(chan struct{})
}

// run logs in and tends the token until ctx ends.
func (k *keeper) run(ctx context.Context) {
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause), backoff.WithMaxInterval(longestPause), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		source := k.method.source()
		if err := k.login(ctx); err != nil {
			k.failed(ctx, err)
			k.sleep(ctx, pause.NextBackOff(), source)
			continue
		}
		k.tend(ctx, source)
		k.mu.Lock()
		young, dead := time.Since(k.since) < steady, !k.have
		k.mu.Unlock()
		switch {
		case !young:
			pause.Reset()
		case dead:
			// Something out there kills tokens as fast as we get them; do not race it.
			wait := pause.NextBackOff()
			if wait > loginPatience {
				k.settle(fmt.Errorf("the last token died within %s", steady))
			}
			k.sleep(ctx, wait, source)
		}
	}
	k.settle(errors.New("the gate is stopped"))
}

// login gets a new token. While it runs the old one, if any, stays in use.
func (k *keeper) login(ctx context.Context) error {
	k.mu.Lock()
	if !k.have && k.attempt == nil {
		k.attempt = make(chan struct{})
	}
	k.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	l, err := k.method.login(ctx, k.bare)
	k.metrics.login(k.method.name(), err)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.have, k.since, k.checked = l, true, time.Now(), time.Time{}
	k.until = endOf(l)
	k.number++
	k.calls.SetToken(l.token)
	k.settleLocked(nil)
	k.log.Info("logged in to Vault", "auth", k.method.name(), "ttl", l.ttl.String(), "renewable", l.renewable)
	return nil
}

// failed takes note that a login did not work. A token that is still good stays.
func (k *keeper) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
	if k.have && (k.until.IsZero() || time.Now().Before(k.until)) {
		k.log.Warn("cannot log in to Vault anew; the present token still works", "auth", k.method.name(), "error", oneLine(err.Error()))
		return
	}
	k.have = false
	k.settleLocked(err)
	k.log.Warn("cannot log in to Vault", "auth", k.method.name(), "error", oneLine(err.Error()))
}

// settle ends the attempt under way, if any, and tells those who wait for it why there is no token.
func (k *keeper) settle(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.have = k.have && err == nil
	k.settleLocked(err)
}

func (k *keeper) settleLocked(err error) {
	k.err = err
	if k.attempt != nil {
		close(k.attempt)
		k.attempt = nil
	}
}

// tend renews the token until a new login is due: because it cannot be renewed any more, was dropped, or its file changed.
func (k *keeper) tend(ctx context.Context, source [32]byte) {
	k.mu.Lock()
	whole, number := k.held.ttl, k.number
	k.mu.Unlock()
	renewable := true
	for {
		k.mu.Lock()
		left, l := time.Until(k.until), k.held
		k.mu.Unlock()
		if l.ttl == 0 {
			whole = 0
		}
		next := plan(left, whole, l.renewable && renewable, k.method.traits())
		timer := time.NewTimer(next.after)
		again := k.await(ctx, timer.C, source)
		timer.Stop()
		if !again || next.login {
			return
		}
		switch err := k.renew(ctx); {
		case err == nil:
		case errors.Is(err, errTokenDead):
			k.drop(number, err)
			return
		case statusOf(err) == http.StatusForbidden || statusOf(err) == http.StatusBadRequest:
			renewable = false // the token lives, but may not or cannot be renewed
		}
		// After any other error the plan is the same with less time left, down to minStep at a time.
	}
}

// await waits for the timer. It answers false when the token is gone or another one lies in the file.
func (k *keeper) await(ctx context.Context, timer <-chan time.Time, source [32]byte) bool {
	poll := time.NewTicker(pollSource)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-k.wake:
			if !k.has() {
				return false
			}
		case <-timer:
			return true
		case <-poll.C:
			if k.method.traits().followed && k.method.source() != source {
				return false
			}
		}
	}
}

// sleep waits for a while, or until there may be new credentials.
func (k *keeper) sleep(ctx context.Context, pause time.Duration, source [32]byte) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	poll := time.NewTicker(pollSource)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-k.wake:
			// The old token died while there is no way to a new one: nobody need wait for the next try.
			k.mu.Lock()
			if !k.have && k.err != nil {
				k.settleLocked(k.err)
			}
			k.mu.Unlock()
		case <-poll.C:
			if k.method.source() != source {
				return
			}
		}
	}
}

func (k *keeper) renew(ctx context.Context) error {
	k.mu.Lock()
	token := k.held.token
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	secret, err := ask(ctx, k.bare, http.MethodPut, "auth/token/renew-self", token)
	if deadToken(err) {
		err = fmt.Errorf("%w: %w", errTokenDead, err)
	}
	var l lease
	if err == nil {
		l, err = leaseOf(secret)
	}
	k.metrics.renewal(err)
	if err != nil {
		k.log.Warn("cannot renew the Vault token", "error", oneLine(err.Error()))
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	l.token = token
	k.held, k.until = l, endOf(l)
	k.log.Debug("renewed the Vault token", "ttl", l.ttl.String())
	return nil
}

func endOf(l lease) time.Time {
	if l.ttl == 0 {
		return time.Time{}
	}
	return time.Now().Add(l.ttl)
}

// current answers the number of the token in use, after waiting for a login that is under way. Without one the error
// wraps errNoToken.
func (k *keeper) current(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, loginPatience)
	defer cancel()
	for {
		k.mu.Lock()
		have, number, attempt, err := k.have, k.number, k.attempt, k.err
		k.mu.Unlock()
		switch {
		case have:
			return number, nil
		case attempt == nil:
			return 0, fmt.Errorf("%w: %w", errNoToken, err)
		}
		select {
		case <-attempt:
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: the login is under way: %w", errNoToken, ctx.Err())
		}
	}
}

// refused is told that Vault answered 403, with the given error, to a call with the token of that number. It answers nil
// when the call is worth repeating with another token, an error that wraps errPolicy when the token is alive, or why that
// cannot be found out.
func (k *keeper) refused(ctx context.Context, number uint64, answer error) error {
	k.mu.Lock()
	outdated := !k.have || k.number != number
	token, checked := k.held.token, k.checked
	k.mu.Unlock()
	switch {
	case outdated:
		return nil
	case deadToken(answer):
		k.drop(number, answer)
		return nil
	case time.Since(checked) < checkFor:
		return fmt.Errorf("%w: %w", errPolicy, answer)
	}
	result := k.checks.DoChan(strconv.FormatUint(number, 10), func() (any, error) {
		// Shared by several calls, so that none of them may end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loginTimeout)
		defer cancel()
		_, err := lookup(ctx, k.bare, token)
		switch {
		case err == nil, errors.Is(err, errNoLookup):
			k.mu.Lock()
			k.checked = time.Now()
			k.mu.Unlock()
			return nil, errPolicy
		case errors.Is(err, errTokenDead):
			k.drop(number, err)
			return nil, nil
		}
		return nil, err
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return fmt.Errorf("%w: %w", r.Err, answer)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drop gives the token of that number up and has a new one got.
func (k *keeper) drop(number uint64, why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.have || k.number != number {
		return
	}
	k.have = false
	k.attempt = make(chan struct{}) // whoever needs a token waits for the next login
	k.log.Warn("the Vault token is dead, logging in anew", "auth", k.method.name(), "lived", time.Since(k.since).Round(time.Second).String(), "error", oneLine(why.Error()))
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// revoke ends a token that was made for us. It is called once run has ended.
func (k *keeper) revoke(ctx context.Context) {
	k.mu.Lock()
	token := k.held.token
	k.held.token = ""
	k.mu.Unlock()
	k.calls.ClearToken()
	if token == "" || !k.method.traits().minted {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	if _, err := ask(ctx, k.bare, http.MethodPut, "auth/token/revoke-self", token); err != nil && !deadToken(err) {
		k.log.Warn("cannot revoke the Vault token, it ends by itself", "error", oneLine(err.Error()))
	}
}

func (k *keeper) has() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.have
}

// ttl is how long the token still lives: 0 without one, negative when it never ends.
func (k *keeper) ttl() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case !k.have:
		return 0
	case k.until.IsZero():
		return -1
	}
	return max(time.Until(k.until), 0)
}
