package enroll

import (
	"context"
	"strconv"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/internal/federation"
	"github.com/ampora/ampora/plugin/internal/name"
)

// landing is where an agent goes.
type landing struct{ group, configuration string }

// holdLanding finds group and configuration for the agent, and keeps them from being deleted until release is called.
func (e *Enroller) holdLanding(ctx context.Context, tenant string, peer *federation.Peer, own *agentRow, a *arrival) (landing, func(), error) {
	configuration, err := wantedConfiguration(peer, a)
	if err != nil {
		return landing{}, nil, err
	}
	unholdConfiguration, err := e.HoldConfiguration(ctx, tenant, configuration)
	if apitype.CodeOf(err) == apitype.ConfigurationMissing {
		err = missingHere(configuration)
	}
	if err != nil {
		return landing{}, nil, err
	}
	group, unholdGroup, err := e.holdGroup(ctx, tenant, peer, own, a)
	if err != nil {
		unholdConfiguration()
		return landing{}, nil, err
	}
	release := func() { unholdGroup(); unholdConfiguration() }
	given, err := e.groupGives(ctx, tenant, group)
	if err != nil {
		release()
		return landing{}, nil, err
	}
	if given == configuration { // it follows its group
		configuration = ""
	}
	return landing{group, configuration}, release, nil
}

func missingHere(configuration string) error {
	return apitype.Errorf(apitype.ConfigurationMissing, "no configuration named %s on this peer", strconv.Quote(configuration))
}

// wantedConfiguration is the one that the operator names, else the one that the peer claims, if it may.
func wantedConfiguration(peer *federation.Peer, a *arrival) (string, error) {
	claimed := a.Token.Agent.Configuration
	switch {
	case a.in.Configuration != nil:
		return *a.in.Configuration, nil
	case claimed == "":
		return "", nil
	case name.Check("configuration", claimed) != nil:
		return "", apitype.Errorf(apitype.ConfigurationMissing, "the claimed configuration is no name; give one with configuration=")
	case !peer.AllowsConfiguration(claimed):
		return "", apitype.Errorf(apitype.ConfigurationMissing, "peer %s may not claim the configuration %s (allowed_configurations); give one with configuration=", peer.Name, strconv.Quote(claimed))
	}
	return claimed, nil
}

// holdGroup is the group that the operator names; else the claimed one, if it is here and the peer may; else, for an agent that
// comes home, the one it had; else none.
func (e *Enroller) holdGroup(ctx context.Context, tenant string, peer *federation.Peer, own *agentRow, a *arrival) (string, func(), error) {
	if a.in.Group != nil {
		release, err := e.HoldGroup(ctx, tenant, *a.in.Group)
		return *a.in.Group, release, err
	}
	var candidates []string
	if claimed := a.Token.Agent.Group; claimed != "" && name.Check("group", claimed) == nil && peer.AllowsGroup(claimed) {
		candidates = append(candidates, claimed)
	}
	if own != nil {
		candidates = append(candidates, own.Group)
	}
	for _, group := range candidates {
		release, err := e.HoldGroup(ctx, tenant, group)
		if apitype.CodeOf(err) != apitype.GroupMissing {
			return group, release, err
		}
	}
	return "", func() {}, nil
}

func (e *Enroller) groupGives(ctx context.Context, tenant, group string) (string, error) {
	if group == "" {
		return "", nil
	}
	return e.ConfigurationOf(ctx, tenant, group)
}
