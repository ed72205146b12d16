package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/client"
	"github.com/ampora/ampora/plugin/token"
	"github.com/google/uuid"
	"github.com/hashicorp/vault/api"
)

// benchPool is the pool of every further mount.
const benchPool = "ci"

// mount is a further mount of the engine, used as root.
type mount struct {
	*client.Client
	vault *vaultSide
	name  string
}

// newMount mounts the engine once more, ready to enrol agents.
func (v *vaultSide) newMount(ctx context.Context, name string) (*mount, error) {
	if err := v.server.EnableSecrets(ctx, name, pluginName, v.ampora); err != nil {
		return nil, err
	}
	root, err := v.connect(v.server.RootToken)
	if err != nil {
		return nil, err
	}
	m := &mount{Client: client.WithVault(root, name), vault: v, name: name}
	err = m.UpdateConfig(ctx, map[string]any{"trust_domain": "bench.example", "endpoint": "wss://127.0.0.1:4320/v1/opamp", "token_min_ttl": 1})
	if err != nil {
		return nil, err
	}
	if _, err := m.CARoot(ctx, apitype.CARootRequest{}); err != nil {
		return nil, err
	}
	_, err = m.WritePool(ctx, benchPool, apitype.PoolRequest{})
	return m, err
}

// home is the engine's usual mount, used as root, with a pool as the others have it.
func (v *vaultSide) home(ctx context.Context) (*mount, error) {
	m := &mount{Client: v.operator, vault: v, name: apitype.DefaultMount}
	_, err := m.WritePool(ctx, benchPool, apitype.PoolRequest{})
	return m, err
}

// issueMany issues tokens of the pool together.
func (m *mount) issueMany(ctx context.Context, count int, ttl int64) ([]apitype.IssuedToken, error) {
	n := int64(count)
	out, err := m.IssueFromPool(ctx, benchPool, apitype.PoolIssueRequest{Count: &n, TTL: ttl})
	if err != nil {
		return nil, err
	}
	return out.Tokens, nil
}

func (m *mount) issue(ctx context.Context, a *applicant) error {
	t, err := m.IssueToken(ctx, apitype.TokenIssueRequest{})
	if err == nil {
		a.token = t.Token
	}
	return err
}

// give hands every applicant a token of one batch.
func (m *mount) give(ctx context.Context, all []*applicant) error {
	for len(all) > 0 {
		n := min(len(all), apitype.MaxCount)
		tokens, err := m.issueMany(ctx, n, 0)
		if err != nil {
			return err
		}
		for i, t := range tokens {
			all[i].token = t.Token
		}
		all = all[n:]
	}
	return nil
}

// enrol checks and redeems, as an edge does.
func (m *mount) enrol(ctx context.Context, a *applicant) error {
	if _, err := m.RedeemCheck(ctx, apitype.RedeemCheckRequest{Token: a.token, SourceIP: sourceIP}); err != nil {
		return err
	}
	return m.redeem(ctx, a)
}

func (m *mount) redeem(ctx context.Context, a *applicant) (err error) {
	a.identity, err = m.Redeem(ctx, apitype.RedeemRequest{
		Token: a.token, CSR: a.csr, InstanceUID: uuid.NewString(), SourceIP: sourceIP,
		Capabilities: 1 | apitype.CapabilityAcceptsOpAMP, IdempotencyKey: uuid.NewString(),
	})
	return err
}

// past writes rows that the engine would have written days ago. They are copies of what it writes today: nobody can wait
// until tokens have expired long enough to be tidied away.
type past struct {
	raw  *api.Client
	root string // of the mount's storage in sys/raw
}

// longAgo is when the tokens of the past expired: before the engine keeps them any longer.
const longAgo = 72 * time.Hour

func (m *mount) past(ctx context.Context) (*past, error) {
	mounts, err := m.vault.server.Client().Sys().ListMountsWithContext(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := m.vault.connect(m.vault.server.RootToken)
	if err != nil {
		return nil, err
	}
	return &past{raw: raw, root: "sys/raw/logical/" + mounts[m.name+"/"].UUID + "/"}, nil
}

type storedRow = map[string]any

func (p *past) read(ctx context.Context, key string) (storedRow, error) {
	s, err := p.raw.Logical().ReadWithContext(ctx, p.root+key)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, fmt.Errorf("there is no row %s", key)
	}
	text, _ := s.Data["value"].(string)
	var row storedRow
	return row, json.Unmarshal([]byte(text), &row)
}

func (p *past) write(ctx context.Context, key string, row storedRow) error {
	text, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = p.raw.Logical().WriteWithContext(ctx, p.root+key, map[string]any{"value": string(text)})
	return err
}

// keys are those of all rows below prefix.
func (p *past) keys(ctx context.Context, prefix string) ([]string, error) {
	s, err := p.raw.Logical().ListWithContext(ctx, p.root+prefix)
	if err != nil || s == nil {
		return nil, err
	}
	names, _ := s.Data["keys"].([]any)
	var all []string
	for _, n := range names {
		name := prefix + fmt.Sprint(n)
		if !strings.HasSuffix(name, "/") {
			all = append(all, name)
			continue
		}
		below, err := p.keys(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

// inner is the row inside its envelope, and a copy of both that may be changed.
func inner(row storedRow, names ...string) (whole, part storedRow, err error) {
	text, err := json.Marshal(row)
	if err == nil {
		err = json.Unmarshal(text, &whole)
	}
	part = whole
	for _, n := range append([]string{"row"}, names...) {
		next, ok := part[n].(storedRow)
		if !ok {
			return nil, nil, errors.Join(err, fmt.Errorf("a row has no %q", n))
		}
		part = next
	}
	return whole, part, err
}

// token writes another one like the row that expired long ago, and answers its id.
func (p *past) token(ctx context.Context, like storedRow) (string, error) {
	whole, row, err := inner(like)
	if err != nil {
		return "", err
	}
	secret := token.New(token.Bootstrap)
	hash := secret.Hash()
	id := secret.ID()
	row["token_id"], row["hash"], row["agent_id"], row["expires_at"] = id, hash[:], secret.AgentID(), time.Now().Add(-longAgo).UTC().Format(time.RFC3339)
	return id, p.write(ctx, "token/"+id[:2]+"/"+id, whole)
}

// endBatch moves the end of a batch back.
func (p *past) endBatch(ctx context.Context, key string) error {
	like, err := p.read(ctx, key)
	if err != nil {
		return err
	}
	whole, row, err := inner(like, "each")
	if err != nil {
		return err
	}
	row["expires_at"] = time.Now().Add(-longAgo).UTC().Format(time.RFC3339)
	return p.write(ctx, key, whole)
}

// together is how many records the engine writes as one row at most.
const together = 10

// events writes n more records like that of the row, at most together, told at the time. Each is about an entity of its own.
func (p *past) events(ctx context.Context, like storedRow, n int, at time.Time) error {
	var whole, first storedRow
	var more []storedRow
	key := fmt.Sprintf("event/%s/%016x", at.UTC().Format("20060102"), at.UnixMicro())
	for i := range n {
		next, record, err := inner(like)
		if err != nil {
			return err
		}
		delete(record, "more")
		u := uuid.New()
		id := base64.RawURLEncoding.EncodeToString(u[:])
		key += "." + id
		record["id"], record["time"] = id, at.UTC().Format(time.RFC3339Nano)
		events, _ := record["events"].([]any)
		for _, e := range events {
			event, _ := e.(storedRow)
			event["id"], event["entity_id"], event["time"] = uuid.NewString(), uuid.NewString(), at.UTC().Format("2006-01-02T15:04:05.000Z07:00")
		}
		if i == 0 {
			whole, first = next, record
		} else {
			more = append(more, record)
		}
	}
	if len(more) > 0 {
		first["more"] = more
	}
	return p.write(ctx, key, whole)
}

// randomID is no id of anything.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return uuid.UUID(b).String()
}
