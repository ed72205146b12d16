// Package ampora is the Vault secrets engine: the glue between Vault's framework and the domain packages below internal/.
//
// One file path_<resource>.go for each resource of the API; a handler decodes, calls the domain and encodes, nothing else.
package ampora

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/audit"
	"github.com/ampora/ampora/plugin/internal/authority"
	"github.com/ampora/ampora/plugin/internal/configuration"
	"github.com/ampora/ampora/plugin/internal/enroll"
	"github.com/ampora/ampora/plugin/internal/epoch"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/feed"
	"github.com/ampora/ampora/plugin/internal/group"
	"github.com/ampora/ampora/plugin/internal/named"
	"github.com/ampora/ampora/plugin/internal/pool"
	"github.com/ampora/ampora/plugin/internal/revocation"
	"github.com/ampora/ampora/plugin/internal/settings"
	"github.com/ampora/ampora/plugin/internal/store"
	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

const operationPrefix = "ampora"

const backendHelp = `
The Ampora engine gives every telemetry agent a certificate of its own.

Issue a bootstrap token with "vault write -f ampora/tokens/issue"; the agent hands it to an edge (ampora-edge), which
redeems it here for a client certificate. Begin with "ampora/config" and "ampora/ca/root".
`

// backend is one mount.
type backend struct {
	*framework.Backend
	life context.Context // ends with the mount
	end  context.CancelFunc

	cache          *store.Cache
	locks          *store.Locks
	settings       *settings.Settings
	configurations *configuration.Configurations
	authority      *authority.Authority
	log            *audit.Log
	epoch          *epoch.Epoch
	pools          *pool.Pools
	groups         *group.Groups
	enroll         *enroll.Enroller
	peers          *federation.Peers
	feed           *feed.Feed
	lists          *revocation.Lists
	ocsp           *revocation.Responder
	edges          *edges
	upkeep         *upkeep
	trail          *trail
	callers        *callers

	admin sync.Mutex // held by writes of the configuration and of issuers, since one fixes parts of the other
}

// Factory makes the engine for one mount. Its storage must not be used before Initialize.
func Factory(ctx context.Context, config *logical.BackendConfig) (logical.Backend, error) {
	return newBackend(ctx, config, time.Now)
}

func newBackend(ctx context.Context, config *logical.BackendConfig, now func() time.Time) (*backend, error) {
	if config == nil || config.StorageView == nil {
		return nil, fmt.Errorf("ampora: the backend needs a storage")
	}
	b := &backend{}
	b.life, b.end = context.WithCancel(context.Background())
	b.cache = store.NewCache(config.StorageView)
	rows := store.New(b.cache)
	b.log = audit.NewLog(rows, now, time.Duration(settings.Defaults().AuditRetention)*time.Second)
	b.settings = settings.New(rows, b.log, now)
	b.authority = authority.New(rows, b.log, now)
	b.upkeep = newUpkeep(b, now)
	b.trail = newTrail(b, now)
	b.locks = store.NewLocks()
	b.epoch = epoch.New(rows, b.log, b.locks, now)
	ground := named.Ground{Store: rows, Log: b.log, Locks: b.locks, Settings: b.settings, Now: now}
	b.configurations = configuration.New(ground)
	b.groups = group.New(ground, b.configurations)
	b.peers = federation.New(ground, b.authority)
	b.pools = &pool.Pools{Store: rows, Locks: b.locks, Log: b.log, Settings: b.settings, Epoch: b.epoch, Now: now, HoldGroup: b.groups.Hold}
	b.enroll = &enroll.Enroller{
		Store: rows, Locks: b.locks, Log: b.log, Settings: b.settings, Authority: b.authority, Epoch: b.epoch, Pools: b.pools, Now: now,
		HoldGroup: b.groups.Hold, HoldConfiguration: b.configurations.Hold, ConfigurationOf: b.groups.Configuration,
		RenewProofOf: b.groups.RenewProof,
		Unsettled:    b.upkeep.unsettled,
	}
	// In the order in which references move on: a pool hands its own to a token, and a redemption to an agent.
	b.groups.ReferredBy(b.pools.InGroup, b.enroll.TokensInGroup, b.enroll.AgentsInGroup)
	b.configurations.ReferredBy(b.enroll.AgentsWithConfiguration)
	b.feed = feed.New(b.life, feed.Sources{
		Revoked: b.enroll.Revoked, Places: b.enroll.Places, Issuers: b.syncIssuers, Settings: b.syncSettings, Peers: b.peers.Sync, Now: now,
		Groups: b.groups.Configurations, Configurations: b.configurations.Hashes,
	})
	b.enroll.Feed, b.enroll.Peers = b.feed, b.peers
	b.peers.PeerGone = b.enroll.PeerGone
	b.peers.Changed = b.feed.PeersChanged
	b.groups.TellTo(b.feed)
	b.configurations.TellTo(b.feed)
	b.lists = revocation.NewLists(b.life, rows, revocation.Sources{
		Leaves: b.enroll.DeadLeaves, Issuer: b.issuer, Expiry: b.crlExpiry, Failed: b.pkiFailed, Now: now,
	})
	b.enroll.Dead = b.lists
	b.ocsp = &revocation.Responder{
		Issuers: b.signers, Standing: b.enroll.LeafStanding, Expiry: b.crlExpiry, Failed: b.pkiFailed, Now: now,
	}
	b.edges = newEdges(rows, now)
	b.Backend = &framework.Backend{
		Help:           backendHelp,
		BackendType:    logical.TypeLogical,
		RunningVersion: apitype.Version,
		PathsSpecial: &logical.Paths{
			Unauthenticated: append([]string{apitype.PathCABundle, apitype.PathCABundlePEM, apitype.PathFederationBundle}, publicPKI...),
			SealWrapStorage: []string{store.IssuerPrefix, store.PoolPrefix},
		},
		Paths: framework.PathAppend(
			b.pathsRedeem(), // the hot ones first: routing is linear
			b.pathsEdge(),
			b.pathsEdgeConfigurations(),
			b.pathsPKI(),
			b.pathsTokens(),
			b.pathsPools(),
			b.pathsAgents(),
			b.pathsEdges(),
			b.pathsGroups(),
			b.pathsConfigurations(),
			b.pathsPeers(),
			b.pathsHandover(),
			b.pathsHandoverFile(),
			b.pathsAudit(),
			b.pathsConfig(),
			b.pathsCA(),
		),
		InitializeFunc: b.initialize,
		PeriodicFunc:   b.periodic,
		Invalidate:     b.invalidate,
		Clean:          b.clean,
	}
	cached := *config
	cached.System = cacheReplicationState(config.System, now)
	if err := b.Setup(ctx, &cached); err != nil {
		return nil, err
	}
	b.callers = newCallers(b.System().EntityInfo, now)
	return b, nil
}

// HandleRequest answers one request. A panic is one failed request: without this it would end the process, and with it
// every other mount and request that the process serves.
func (b *backend) HandleRequest(ctx context.Context, req *logical.Request) (resp *logical.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			// The value may hold anything, a secret too, and so stays out of the answer and the log; the stack tells the place.
			b.Logger().Error("a request handler panicked", "operation", req.Operation, "request_id", req.ID, "stack", string(debug.Stack()))
			resp, err = nil, coded(apitype.Errorf(apitype.Internal, "the request failed"))
		}
	}()
	req.DisplayName = b.callers.displayName(req)
	resp, err = b.Backend.HandleRequest(ctx, req)
	b.trail.count(req, resp, err)
	if req.Operation == logical.HelpOperation {
		writeOut(resp)
	}
	return b.hideValues(req, resp), err
}

// initialize must be quick, for the unsealing of the whole Vault waits for it.
func (b *backend) initialize(context.Context, *logical.InitializationRequest) error {
	if b.WriteSafeReplicationState() {
		b.upkeep.tick()
		b.trail.tick()
	}
	b.feed.Warm()
	b.lists.Warm()
	return nil
}

func (b *backend) periodic(context.Context, *logical.Request) error {
	if b.WriteSafeReplicationState() {
		b.upkeep.tick()
		b.lists.Tick()
	}
	b.trail.tick()
	return nil
}

// clean ends the mount.
func (b *backend) clean(ctx context.Context) {
	b.trail.end(ctx)
	b.end()
	b.upkeep.stop()
}

// invalidate hears of rows that another node wrote.
func (b *backend) invalidate(_ context.Context, key string) {
	b.cache.Forget(key)
	switch {
	case key == store.ConfigKey:
		b.settings.Forget()
		b.feed.SettingsChanged()
		b.lists.SettingsChanged()
	case key == store.CAStateKey || strings.HasPrefix(key, store.IssuerPrefix):
		b.authority.Forget()
		b.feed.IssuersChanged()
	case strings.HasPrefix(key, store.RevokedPrefix):
		b.feed.Discard()
		b.lists.Discard()
	case strings.HasPrefix(key, store.GroupPrefix), strings.HasPrefix(key, store.ConfigurationPrefix):
		b.feed.Discard()
	case strings.HasPrefix(key, store.AgentPrefix):
		b.lists.Discard()
		b.feed.Discard() // handovers stand in agents' rows
		b.enroll.ForgetHandovers()
	case strings.HasPrefix(key, store.CRLPrefix):
		b.lists.Forget()
	case key == store.EpochKey:
		b.epoch.Forget()
	case strings.HasPrefix(key, store.PoolPrefix):
		b.pools.Forget()
	case strings.HasPrefix(key, store.TokenPrefix):
		b.enroll.ForgetCounts()
	case strings.HasPrefix(key, store.PeerPrefix):
		b.peers.Forget()
		b.feed.PeersChanged()
	case strings.HasPrefix(key, store.BatchPrefix):
		b.enroll.Forget()
	case key == store.TidiedKey || strings.HasPrefix(key, store.EventPrefix):
		b.log.Forget()
	}
}

// forget drops everything that memory knows of storage.
func (b *backend) forget() {
	b.cache.ForgetAll()
	b.log.Forget()
	b.settings.Forget()
	b.authority.Forget()
	b.epoch.Forget()
	b.pools.Forget()
	b.peers.Forget()
	b.enroll.Forget()
	b.enroll.ForgetHandovers()
	b.feed.PeersChanged()
	b.feed.SettingsChanged()
	b.feed.IssuersChanged()
	b.feed.Discard()
	b.lists.Discard()
	b.lists.Forget()
}
