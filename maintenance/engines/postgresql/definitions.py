"""What the database consists of besides rows: one line an object, with the digest of its definition."""

# ruff: noqa: S608 -- only names that `quoted` or the catalog itself quoted stand in statements

from __future__ import annotations

OURS = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname !~ '^dbm[0-9]+_'"

DEFINITIONS = f"""
SELECT object, md5(string_agg(definition, chr(10) ORDER BY definition)) FROM (
  SELECT format('table %I.%I', n.nspname, c.relname) AS object,
    concat_ws('|', a.attnum - (SELECT count(*) FROM pg_attribute d WHERE d.attrelid = c.oid AND d.attisdropped
      AND d.attnum BETWEEN 1 AND a.attnum),
      a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
        (SELECT l.collname FROM pg_collation l WHERE l.oid = a.attcollation),
      pg_get_expr(d.adbin, d.adrelid), c.relpersistence, c.relkind, c.reloptions, pg_get_userbyid(c.relowner),
      c.relrowsecurity, c.relforcerowsecurity, pg_get_expr(c.relpartbound, c.oid), a.attacl) AS definition
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE c.relkind IN ('r', 'p', 'f', 'm', 'v', 'c') AND {OURS}
  UNION ALL
  SELECT format('index %I.%I', n.nspname, c.relname), concat_ws('|', pg_get_indexdef(c.oid), x.indisvalid,
    x.indisclustered, x.indisreplident)
  FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS}
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
    concat_ws('|', format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache,
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
  SELECT format('comment on %s %s.%s', d.classoid::regclass, n.nspname, coalesce(c.relname,
    '')) || ' ' || d.objsubid, d.description
  FROM pg_description d JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OURS}
) objects GROUP BY object ORDER BY object
"""
