# An operator: issues and ends tokens, looks after agents. Settings, certificate authorities and the audit trail are others' work;
# give ampora-auditor as well to who should see the trail.

path "ampora/tokens/issue" {
  capabilities = ["update"]
}

path "ampora/tokens" {
  capabilities = ["list", "read"]
}

# A row never holds the token itself.
path "ampora/tokens/+" {
  capabilities = ["read"]
}

path "ampora/tokens/+/revoke" {
  capabilities = ["update"]
}

path "ampora/agents" {
  capabilities = ["list", "read"]
}

path "ampora/agents/+" {
  capabilities = ["read", "update", "delete"]
}

path "ampora/agents/+/revoke" {
  capabilities = ["update"]
}

# The limits that a refused ttl or name speaks of. There is no secret in it.
path "ampora/config" {
  capabilities = ["read"]
}

# For one tenant, these in the place of all the above:
#
# path "ampora/tenants/acme/tokens/issue"    { capabilities = ["update"] }
# path "ampora/tenants/acme/tokens"          { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/tokens/+"        { capabilities = ["read"] }
# path "ampora/tenants/acme/tokens/+/revoke" { capabilities = ["update"] }
# path "ampora/tenants/acme/agents"          { capabilities = ["list", "read"] }
# path "ampora/tenants/acme/agents/+"        { capabilities = ["read", "update", "delete"] }
# path "ampora/tenants/acme/agents/+/revoke" { capabilities = ["update"] }
# path "ampora/config"                       { capabilities = ["read"] }
