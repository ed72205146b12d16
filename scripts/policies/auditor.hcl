# An auditor: reads the audit trail of the engine, what happened to pools, groups and configurations too, and nothing else. Vault's own audit
# device is the second, independent record; it is not reached through Vault's API.

path "ampora/audit/events" {
  capabilities = ["read"]
}

# For one tenant, this in the place of the above:
#
# path "ampora/tenants/acme/audit/events" { capabilities = ["read"] }
