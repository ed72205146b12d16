# An edge: the stateless front that agents connect to. One Vault identity per edge.
#
# It turns tokens into agents, has pools issue for who shows their secret, reports sessions, and keeps its trust snapshot. It
# cannot issue a token by itself, read a row, revoke anybody or change a setting: whoever takes an edge over can enrol only
# who holds a token or a pool's secret.

path "ampora/edge/sync" {
  capabilities = ["read"]
}

path "ampora/edge/report" {
  capabilities = ["update"]
}

path "ampora/edge/certificate" {
  capabilities = ["update"]
}

# What the agents are to run: which configuration each group gives, and the configurations as agents are given them.
path "ampora/edge/configurations" {
  capabilities = ["read"]
}

path "ampora/edge/configurations/+" {
  capabilities = ["read"]
}

# What it serves to whoever checks certificates.
path "ampora/edge/crl" {
  capabilities = ["update"]
}

path "ampora/edge/ocsp" {
  capabilities = ["update"]
}

path "ampora/redeem" {
  capabilities = ["update"]
}

path "ampora/redeem/check" {
  capabilities = ["update"]
}

# The next certificate of an agent that is connected. It rests on the agent's own key, not on the edge's word (config.renew_proof).
path "ampora/agents/+/renew" {
  capabilities = ["update"]
}

# For a holder of the pool's admin secret, which goes with the request (the pool HTTP API).
path "ampora/pools/+/admin/issue" {
  capabilities = ["update"]
}

# A peer's newer bundle, which counts because a key has signed it that is pinned already; the edge only carries it.
path "ampora/peers/+/bundle" {
  capabilities = ["update"]
}

# Receipts between peers, signed likewise: what waits for the way, and what has come.
path "ampora/handover/outbox" {
  capabilities = ["read"]
}

path "ampora/handover/receipt" {
  capabilities = ["update"]
}

# Its own Vault token, in case the role leaves the default policy out.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# An edge for one tenant (ampora-edge --tenant acme) has these in the place of all those below ampora/:
#
# path "ampora/edge/sync"                        { capabilities = ["read"] }
# path "ampora/edge/certificate"                 { capabilities = ["update"] }
# path "ampora/edge/crl"                         { capabilities = ["update"] }
# path "ampora/edge/ocsp"                        { capabilities = ["update"] }
# path "ampora/peers/+/bundle"                   { capabilities = ["update"] }
# path "ampora/handover/outbox"                  { capabilities = ["read"] }
# path "ampora/handover/receipt"                 { capabilities = ["update"] }
# path "ampora/tenants/acme/edge/report"         { capabilities = ["update"] }
# path "ampora/tenants/acme/edge/configurations" { capabilities = ["read"] }
# path "ampora/tenants/acme/edge/configurations/+" { capabilities = ["read"] }
# path "ampora/tenants/acme/redeem"              { capabilities = ["update"] }
# path "ampora/tenants/acme/redeem/check"        { capabilities = ["update"] }
# path "ampora/tenants/acme/agents/+/renew"      { capabilities = ["update"] }
# path "ampora/tenants/acme/pools/+/admin/issue" { capabilities = ["update"] }
