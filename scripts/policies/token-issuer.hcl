# A token issuer: CI, a provisioning script, an installer. It makes bootstrap tokens, and nothing else: it cannot list, read or
# revoke the ones it made.
#
# 'vault write -f -field=token ampora/tokens/issue' is an update, also without data.

path "ampora/tokens/issue" {
  capabilities = ["update"]
}

# For one tenant, this in the place of the above:
#
# path "ampora/tenants/acme/tokens/issue" { capabilities = ["update"] }
