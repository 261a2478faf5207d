"""What the database consists of besides rows: one line an object, with the digest of its definition."""

from __future__ import annotations

from .own_schemas import NOT_OURS, SETTING

OURS = f"n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND {NOT_OURS}"

FIRST_OWN = 16384
"""Numbers below belong to what every new database brings along."""

# What a broken build left is no index: work drops it, and no dump holds it. Nor does one hold the type of an identity's
# sequence: CREATE TABLE (LIKE) makes it wider than the column, within the same bounds. Nor an operator that is named by
# others alone and was never made, nor the comment that a dropped subscription leaves behind.
DEFINITIONS = f"""
SELECT object, md5(string_agg(definition, chr(10) ORDER BY definition)) FROM (
  SELECT format('table %I.%I', n.nspname, c.relname) AS object,
    concat_ws('|', a.attnum - (SELECT count(*) FROM pg_attribute d WHERE d.attrelid = c.oid AND d.attisdropped
      AND d.attnum BETWEEN 1 AND a.attnum),
      a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
        (SELECT l.collname FROM pg_collation l WHERE l.oid = a.attcollation),
      pg_get_expr(d.adbin, d.adrelid), c.relpersistence, c.relkind, c.reloptions, pg_get_userbyid(c.relowner),
      c.relrowsecurity, c.relforcerowsecurity, pg_get_expr(c.relpartbound, c.oid), a.attacl, c.relreplident,
      a.attstorage, a.attstattarget, a.attoptions,
      (SELECT s.spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace)) AS definition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE c.relkind IN ('r', 'p', 'f', 'm', 'v', 'c') AND {OURS}
  UNION ALL
  SELECT format('index %I.%I', n.nspname, c.relname), concat_ws('|', pg_get_indexdef(c.oid), x.indisvalid,
    x.indisclustered, x.indisreplident, (SELECT s.spcname FROM pg_tablespace s WHERE s.oid = c.reltablespace))
  FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS}
    AND (x.indisvalid OR c.relkind = 'I')
  UNION ALL
  SELECT format('constraint %I on %I.%I', k.conname, n.nspname, c.relname), concat_ws('|',
    pg_get_constraintdef(k.oid), k.convalidated)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE k.conparentid = 0 AND {OURS}
  UNION ALL
  SELECT format('view %I.%I', n.nspname, c.relname), pg_get_viewdef(c.oid)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {OURS}
  UNION ALL
  SELECT format('trigger %I on %I.%I', t.tgname, n.nspname, c.relname), concat_ws('|', pg_get_triggerdef(t.oid),
    t.tgenabled)
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND {OURS}
  UNION ALL
  SELECT format('policy %I on %I.%I', p.polname, n.nspname, c.relname),
    concat_ws('|', p.polcmd, p.polpermissive, pg_get_expr(p.polqual, c.oid), pg_get_expr(p.polwithcheck, c.oid))
  FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS}
  UNION ALL
  SELECT format('routine %I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
    concat_ws('|', CASE WHEN p.prokind IN ('f', 'p', 'w') THEN pg_get_functiondef(p.oid) ELSE p.prosrc END,
      p.proacl, pg_get_userbyid(p.proowner))
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OURS}
  UNION ALL
  SELECT format('sequence %I.%I', n.nspname, c.relname),
    concat_ws('|', CASE WHEN EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
        AND d.objid = c.oid AND d.deptype = 'i') THEN 'identity' ELSE format_type(s.seqtypid, NULL) END,
      s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
      s.seqcycle, pg_get_userbyid(c.relowner))
  FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS}
  UNION ALL
  SELECT format('type %I.%I', n.nspname, t.typname),
    concat_ws('|', t.typtype, format_type(t.typbasetype, t.typtypmod), t.typnotnull, t.typdefault,
      (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r') AND {OURS}
  UNION ALL
  SELECT format('grants on %I.%I', n.nspname, c.relname), a.grantee || '|' || a.privilege_type || '|' || a.is_grantable
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
    LATERAL (SELECT CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END AS grantee,
      x.privilege_type,
                    x.is_grantable::text
             FROM aclexplode(coalesce(c.relacl, acldefault(CASE WHEN c.relkind = 'S' THEN 's' ELSE 'r' END::"char",
               c.relowner))) x) a
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {OURS}
  UNION ALL
  SELECT format('schema %I', n.nspname), concat_ws('|', pg_get_userbyid(n.nspowner),
    (SELECT string_agg(concat_ws(' ', CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END,
      x.privilege_type, x.is_grantable), ','
       ORDER BY x.grantee = 0, pg_get_userbyid(x.grantee), x.privilege_type)
     FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x))
  FROM pg_namespace n WHERE {OURS}
  UNION ALL
  SELECT format('extension %I', e.extname), e.extversion FROM pg_extension e
  UNION ALL
  SELECT format('comment on %s', pg_describe_object(d.classoid, d.objoid, d.objsubid)), d.description
  FROM pg_description d WHERE (d.objoid >= {FIRST_OWN} OR d.objoid = to_regnamespace('public')
      OR d.classoid = 'pg_largeobject'::regclass)
    AND NOT (d.classoid = 'pg_class'::regclass AND EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n
      ON n.oid = c.relnamespace WHERE c.oid = d.objoid AND NOT ({OURS})))
    AND NOT (d.classoid = 'pg_namespace'::regclass AND d.objoid = ANY (current_setting('{SETTING}')::oid[]))
    AND NOT (d.classoid = 'pg_subscription'::regclass AND d.objoid NOT IN (SELECT oid FROM pg_subscription))
  UNION ALL
  SELECT format('security label on %s', pg_describe_object(l.classoid, l.objoid, l.objsubid)),
    concat_ws('|', l.provider, l.label)
  FROM pg_seclabel l
  UNION ALL
  SELECT 'security label on the database', concat_ws('|', l.provider, l.label)
  FROM pg_shseclabel l JOIN pg_database d ON d.oid = l.objoid AND l.classoid = 'pg_database'::regclass
    WHERE d.datname = current_database()
  UNION ALL
  SELECT concat_ws(' of ', 'setting ' || split_part(c, '=', 1), quote_ident(r.rolname)), c
  FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole,
    LATERAL unnest(s.setconfig) c WHERE d.datname = current_database()
  UNION ALL
  SELECT format('statistics %I.%I', n.nspname, s.stxname), concat_ws('|', pg_get_statisticsobjdef(s.oid),
    pg_get_userbyid(s.stxowner))
  FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE {OURS}
  UNION ALL
  SELECT format('rule %I on %I.%I', r.rulename, n.nspname, c.relname), concat_ws('|', pg_get_ruledef(r.oid),
    r.ev_enabled)
  FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE r.rulename <> '_RETURN' AND {OURS}
  UNION ALL
  SELECT format('publication %I', p.pubname), concat_ws('|', to_jsonb(p) - 'oid' - 'pubowner',
    pg_get_userbyid(p.pubowner))
  FROM pg_publication p
  UNION ALL
  SELECT format('publication %I', p.pubname), to_jsonb(p)::text FROM pg_publication_tables p
  UNION ALL
  SELECT format('subscription %I', s.subname), concat_ws('|', pg_get_userbyid(s.subowner), s.subslotname,
    s.subpublications)
  FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()
  UNION ALL
  SELECT format('event trigger %I', e.evtname), concat_ws('|', e.evtevent, e.evtfoid::regproc, e.evtenabled, e.evttags,
    pg_get_userbyid(e.evtowner))
  FROM pg_event_trigger e
  UNION ALL
  SELECT format('default privileges of %I in %s for %s', pg_get_userbyid(a.defaclrole),
    coalesce((SELECT nspname FROM pg_namespace WHERE oid = a.defaclnamespace), 'every schema'), a.defaclobjtype),
    (SELECT string_agg(x::text, ',' ORDER BY x::text) FROM unnest(a.defaclacl) x)
  FROM pg_default_acl a
  UNION ALL
  SELECT format('large object %s', l.oid), concat_ws('|', pg_get_userbyid(l.lomowner),
    (SELECT string_agg(x::text, ',' ORDER BY x::text) FROM unnest(l.lomacl) x))
  FROM pg_largeobject_metadata l
  UNION ALL
  SELECT format('server %I', s.srvname), concat_ws('|', to_jsonb(s) - 'oid' - 'srvowner' - 'srvfdw',
    pg_get_userbyid(s.srvowner))
  FROM pg_foreign_server s
  UNION ALL
  SELECT format('user mapping of %I for %I', usename, srvname), array_to_string(umoptions, '|') FROM pg_user_mappings
  UNION ALL
  SELECT pg_describe_object(o.class, o.oid, 0), o.definition FROM (
    SELECT 'pg_cast'::regclass AS class, oid, concat_ws('|', castcontext, castmethod) AS definition FROM pg_cast
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprcode::regproc::text FROM pg_operator
      WHERE oprcode <> 0
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcdefault::text FROM pg_opclass
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, '' FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictinitoption FROM pg_ts_dict
    UNION ALL SELECT 'pg_collation'::regclass, oid, concat_ws('|', collprovider, collcollate, collisdeterministic)
      FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, conproc::regproc::text FROM pg_conversion
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwoptions::text FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_language'::regclass, oid, lanpltrusted::text FROM pg_language) o
  WHERE o.oid >= {FIRST_OWN}
) objects GROUP BY object ORDER BY object
"""
