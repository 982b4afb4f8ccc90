//! The commands of Valkey 8.1, as it lists them itself (`COMMAND LIST`): an access list that names another one would not be loaded.
//! A test of the nodes compares this with the server.

/// Every command and subcommand that is no administrative one.
pub(super) const ORDINARY: &str = "\
     acl acl|cat acl|genpass acl|help acl|whoami append asking auth bitcount bitfield bitfield_ro bitop bitpos blmove \
     blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin client client|caching client|capa client|getname \
     client|getredir client|help client|id client|info client|no-touch client|reply client|setinfo \
     client|setname client|tracking client|trackinginfo cluster cluster|countkeysinslot cluster|getkeysinslot cluster|help \
     cluster|info cluster|keyslot cluster|links cluster|myid cluster|myshardid cluster|nodes cluster|shards \
     cluster|slot-stats cluster|slots command commandlog commandlog|help command|count command|docs command|getkeys \
     command|getkeysandflags command|help command|info command|list config config|help copy dbsize decr decrby del discard \
     dump echo eval eval_ro evalsha evalsha_ro exec exists expire expireat expiretime fcall fcall_ro flushall flushdb \
     function function|delete function|dump function|flush function|help function|kill function|list function|load \
     function|restore function|stats geoadd geodist geohash geopos georadius georadius_ro georadiusbymember \
     georadiusbymember_ro geosearch geosearchstore get getbit getdel getex getrange getset hdel hello hexists hget hgetall \
     hincrby hincrbyfloat hkeys hlen hmget hmset hrandfield hscan hset hsetnx hstrlen hvals incr incrby incrbyfloat info \
     keys latency latency|help lcs lindex linsert llen lmove lmpop lolwut lpop lpos lpush lpushx lrange lrem lset ltrim \
     memory memory|doctor memory|help memory|malloc-stats memory|purge memory|stats memory|usage mget module \
     module|help move mset msetnx multi object object|encoding object|freq object|help object|idletime object|refcount \
     persist pexpire pexpireat pexpiretime pfadd pfcount pfmerge ping psetex psubscribe pttl publish pubsub pubsub|channels \
     pubsub|help pubsub|numpat pubsub|numsub pubsub|shardchannels pubsub|shardnumsub punsubscribe quit randomkey readonly \
     readwrite rename renamenx reset restore restore-asking rpop rpoplpush rpush rpushx sadd scan scard script \
     script|exists script|flush script|help script|kill script|load script|show sdiff sdiffstore select set setbit setex \
     setnx setrange sinter sintercard sinterstore sismember slowlog slowlog|help smembers smismember smove sort sort_ro \
     spop spublish srandmember srem sscan ssubscribe strlen subscribe substr sunion sunionstore sunsubscribe swapdb time \
     touch ttl type unlink unsubscribe unwatch wait waitaof watch xack xadd xautoclaim xclaim xdel xgroup xgroup|create \
     xgroup|createconsumer xgroup|delconsumer xgroup|destroy xgroup|help xgroup|setid xinfo xinfo|consumers xinfo|groups \
     xinfo|help xinfo|stream xlen xpending xrange xread xreadgroup xrevrange xsetid xtrim zadd zcard zcount zdiff \
     zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange \
     zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange \
     zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore";

/// What only the node itself may run: the category `admin`, and what stops the server for a debugger, reads keys that have expired
/// ([`super::OPERATOR`]), or makes it connect elsewhere.
pub(super) const ADMINISTRATIVE: &str = "\
     acl|deluser acl|dryrun acl|getuser acl|list acl|load acl|log acl|save acl|setuser acl|users bgrewriteaof bgsave \
     client|import-source client|kill client|list client|no-evict client|pause client|unblock client|unpause cluster|addslots \
     cluster|addslotsrange cluster|bumpepoch cluster|count-failure-reports cluster|delslots cluster|delslotsrange \
     cluster|failover cluster|flushslots cluster|forget cluster|meet cluster|replicas cluster|replicate cluster|reset \
     cluster|saveconfig cluster|set-config-epoch cluster|setslot cluster|slaves commandlog|get commandlog|len \
     commandlog|reset config|get config|resetstat config|rewrite config|set debug failover lastsave latency|doctor \
     latency|graph latency|histogram latency|history latency|latest latency|reset migrate module|list module|load module|loadex \
     module|unload monitor pfdebug pfselftest psync replconf replicaof role save script|debug shutdown slaveof slowlog|get slowlog|len \
     slowlog|reset sync";
