# METADATA
# description: |
#   What the log of decisions leaves out. Keys, queries and bodies are not part of the input at all.
package cogniforge.mask

mask contains "/input/address"

mask contains "/input/caller/user"
