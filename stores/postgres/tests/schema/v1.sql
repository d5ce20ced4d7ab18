-- A database of schema version 1, made with: pg_dump --inserts --no-owner --no-privileges
-- Lines that begin with a backslash, which only psql understands, are left out.
--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: klikit_inbox_queue(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.klikit_inbox_queue() RETURNS trigger
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET search_path TO 'public', 'pg_temp'
    AS $$
BEGIN
    IF TG_WHEN = 'AFTER' THEN
        DELETE FROM "klikit_inbox_key" WHERE id = OLD.id;
        RETURN NULL;
    END IF;
    IF OLD.state < 2 THEN
        -- The delivery has other ordering keys than before
        DELETE FROM "klikit_inbox_key" WHERE id = OLD.id;
    ELSIF NEW.due = OLD.due THEN
        -- A dead or done delivery is ready again
        NEW.due := clock_timestamp();
    END IF;
    IF NEW.ordering_keys IS NOT NULL THEN
        -- Nothing may be leased until this is committed
        PERFORM pg_advisory_xact_lock(1802267500, TG_RELID::integer);
        -- Later deliveries that share a key may be leased. Leasing looks at those only if the token is not 0.
        NEW.token := greatest(NEW.token, 1);
        INSERT INTO "klikit_inbox_key" (ordering_key, id)
        SELECT DISTINCT ordering_key, NEW.id
        FROM unnest(NEW.ordering_keys) AS ordering_key
        WHERE ordering_key IS NOT NULL
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEW;
END
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: klikit_inbox; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.klikit_inbox (
    id bigint NOT NULL,
    due timestamp with time zone NOT NULL,
    accepted_at timestamp with time zone NOT NULL,
    token bigint NOT NULL,
    key uuid NOT NULL,
    event_key uuid,
    attempts integer NOT NULL,
    state smallint NOT NULL,
    event_id text,
    event_type text,
    tenant text NOT NULL,
    ordering_keys text[],
    reason text
)
WITH (autovacuum_vacuum_scale_factor='0.05');


--
-- Name: klikit_inbox_body; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.klikit_inbox_body (
    id bigint NOT NULL,
    digest bytea NOT NULL,
    head text NOT NULL,
    body bytea NOT NULL
);


--
-- Name: klikit_deliveries; Type: VIEW; Schema: public; Owner: -
--

CREATE VIEW public.klikit_deliveries AS
 SELECT klikit_inbox.id,
        CASE klikit_inbox.state
            WHEN 0 THEN 'ready'::text
            WHEN 1 THEN 'leased'::text
            WHEN 2 THEN 'dead'::text
            WHEN 3 THEN 'done'::text
            ELSE NULL::text
        END AS state,
    klikit_inbox.event_id,
    klikit_inbox.event_type,
    klikit_inbox.tenant,
    klikit_inbox.ordering_keys,
    klikit_inbox.attempts,
        CASE
            WHEN (klikit_inbox.state <> 2) THEN klikit_inbox.due
            ELSE NULL::timestamp with time zone
        END AS due_at,
    klikit_inbox.accepted_at,
    klikit_inbox.reason,
    octet_length(klikit_inbox_body.body) AS body_bytes
   FROM (public.klikit_inbox
     LEFT JOIN public.klikit_inbox_body USING (id));


--
-- Name: klikit_inbox_attempt; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.klikit_inbox_attempt (
    id bigint NOT NULL,
    attempt integer NOT NULL,
    worker text,
    started_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    status integer,
    reason text
);


--
-- Name: klikit_inbox_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.klikit_inbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.klikit_inbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: klikit_inbox_key; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.klikit_inbox_key (
    ordering_key text COLLATE pg_catalog."C" NOT NULL,
    id bigint NOT NULL
);


--
-- Name: klikit_ledger; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.klikit_ledger (
    claimed_at timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL,
    kept_until timestamp with time zone,
    key uuid NOT NULL,
    event_key uuid,
    token uuid NOT NULL,
    state smallint NOT NULL,
    digest bytea NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.05');


--
-- Name: klikit_schema; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.klikit_schema (
    part text NOT NULL,
    version integer NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Data for Name: klikit_inbox; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.klikit_inbox OVERRIDING SYSTEM VALUE VALUES (1, '2026-03-01 08:06:00+00', '2026-03-01 08:01:00+00', 1, '00000000-0000-0000-0000-000000000001', NULL, 1, 1, 'evt-1', 'order.created', 'warung', '{order:41@warung,order:42@warung}', NULL);
INSERT INTO public.klikit_inbox OVERRIDING SYSTEM VALUE VALUES (2, '2026-03-01 08:02:00+00', '2026-03-01 08:02:00+00', 0, '00000000-0000-0000-0000-000000000002', NULL, 0, 0, 'evt-2', 'order.updated', 'warung', '{order:42@warung}', NULL);
INSERT INTO public.klikit_inbox OVERRIDING SYSTEM VALUE VALUES (3, '2026-03-01 08:03:25+00', '2026-03-01 08:03:00+00', 25, '00000000-0000-0000-0000-000000000003', NULL, 25, 2, 'evt-3', NULL, 'warung', NULL, '503 Service Unavailable');
INSERT INTO public.klikit_inbox OVERRIDING SYSTEM VALUE VALUES (4, '2026-03-08 08:04:00+00', '2026-03-01 08:04:00+00', 1, '00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000003', 1, 3, 'evt-3', NULL, 'warung', NULL, NULL);


--
-- Data for Name: klikit_inbox_attempt; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.klikit_inbox_attempt VALUES (1, 1, 'node-1', '2026-03-01 08:05:00+00', NULL, NULL, NULL);
INSERT INTO public.klikit_inbox_attempt VALUES (3, 25, 'node-1', '2026-03-01 08:03:00+00', '2026-03-01 08:03:01+00', 503, '503 Service Unavailable');


--
-- Data for Name: klikit_inbox_body; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.klikit_inbox_body VALUES (1, '\x544a0808141d01bd7ed7d1edbbe38c3f9098ea7948a63198eef8038c698174ec', '{"method":"POST","uri":"/","tenant":"warung","secret_id":"1","received_at":1772352060000,"event_id":"evt-1","event_type":"order.created"}', '\x7b226f7264657273223a5b7b226964223a34317d2c7b226964223a34327d5d7d');
INSERT INTO public.klikit_inbox_body VALUES (2, '\x19f2c71726056bee4688eb34e964dd614cd014a208d4c9e9e07609a51cb2b81c', '{"method":"POST","uri":"/","tenant":"warung","secret_id":"1","received_at":1772352120000,"event_id":"evt-2","event_type":"order.updated"}', '\x7b226f7264657273223a5b7b226964223a34327d5d7d');
INSERT INTO public.klikit_inbox_body VALUES (3, '\xd4e063e9f349e192bd7e85cd7c9c70ed2c42d69f5d314cdcbd5f5556b8bad7e1', '{"method":"POST","uri":"/","tenant":"warung","secret_id":"1","received_at":1772352180000,"event_id":"evt-3"}', '\x7b2263617274223a337d');
INSERT INTO public.klikit_inbox_body VALUES (4, '\x9549c451e857706ee9c66cdc24fc08f135c60708f5c28985cd9cb61a745e1713', '{"method":"POST","uri":"/","tenant":"warung","secret_id":"1","received_at":1772352240000,"event_id":"evt-3","conflict":true}', '\x7b2263617274223a347d');


--
-- Data for Name: klikit_inbox_key; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.klikit_inbox_key VALUES ('order:41@warung', 1);
INSERT INTO public.klikit_inbox_key VALUES ('order:42@warung', 1);
INSERT INTO public.klikit_inbox_key VALUES ('order:42@warung', 2);


--
-- Data for Name: klikit_ledger; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.klikit_ledger VALUES ('2026-03-01 08:00:00+00', '2026-03-01 08:00:25+00', '2026-03-01 08:05:25+00', '00000000-0000-0000-0000-000000000009', NULL, '10000000-0000-0000-0000-000000000009', 0, '\xd79d3458a58877cd8e48c18ebaf4c27b9d5c1a9cb5dfbdac769a7a21d8a1022e');
INSERT INTO public.klikit_ledger VALUES ('2026-03-01 08:01:00+00', '2026-04-05 08:01:00+00', NULL, '00000000-0000-0000-0000-000000000001', NULL, '10000000-0000-0000-0000-000000000001', 1, '\x544a0808141d01bd7ed7d1edbbe38c3f9098ea7948a63198eef8038c698174ec');
INSERT INTO public.klikit_ledger VALUES ('2026-03-01 08:02:00+00', '2026-04-05 08:02:00+00', NULL, '00000000-0000-0000-0000-000000000002', NULL, '10000000-0000-0000-0000-000000000002', 1, '\x19f2c71726056bee4688eb34e964dd614cd014a208d4c9e9e07609a51cb2b81c');
INSERT INTO public.klikit_ledger VALUES ('2026-03-01 08:03:00+00', '2026-04-05 08:03:00+00', NULL, '00000000-0000-0000-0000-000000000003', NULL, '10000000-0000-0000-0000-000000000003', 1, '\xd4e063e9f349e192bd7e85cd7c9c70ed2c42d69f5d314cdcbd5f5556b8bad7e1');
INSERT INTO public.klikit_ledger VALUES ('2026-03-01 08:04:00+00', '2026-04-05 08:04:00+00', NULL, '00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000003', '10000000-0000-0000-0000-000000000004', 1, '\x9549c451e857706ee9c66cdc24fc08f135c60708f5c28985cd9cb61a745e1713');


--
-- Data for Name: klikit_schema; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.klikit_schema VALUES ('ledger', 1, '2026-03-01 07:00:00+00');
INSERT INTO public.klikit_schema VALUES ('inbox', 1, '2026-03-01 07:00:00+00');


--
-- Name: klikit_inbox_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.klikit_inbox_id_seq', 4, true);


--
-- Name: klikit_inbox_attempt klikit_inbox_attempt_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.klikit_inbox_attempt
    ADD CONSTRAINT klikit_inbox_attempt_pkey PRIMARY KEY (id, attempt, started_at);


--
-- Name: klikit_inbox_body klikit_inbox_body_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.klikit_inbox_body
    ADD CONSTRAINT klikit_inbox_body_pkey PRIMARY KEY (id);


--
-- Name: klikit_inbox klikit_inbox_key_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.klikit_inbox
    ADD CONSTRAINT klikit_inbox_key_key UNIQUE (key);


--
-- Name: klikit_inbox_key klikit_inbox_key_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.klikit_inbox_key
    ADD CONSTRAINT klikit_inbox_key_pkey PRIMARY KEY (ordering_key, id);


--
-- Name: klikit_inbox klikit_inbox_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.klikit_inbox
    ADD CONSTRAINT klikit_inbox_pkey PRIMARY KEY (id);


--
-- Name: klikit_ledger klikit_ledger_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.klikit_ledger
    ADD CONSTRAINT klikit_ledger_pkey PRIMARY KEY (key);


--
-- Name: klikit_schema klikit_schema_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.klikit_schema
    ADD CONSTRAINT klikit_schema_pkey PRIMARY KEY (part);


--
-- Name: klikit_inbox_dead_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX klikit_inbox_dead_idx ON public.klikit_inbox USING btree (id) WHERE (state = 2);


--
-- Name: klikit_inbox_done_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX klikit_inbox_done_idx ON public.klikit_inbox USING btree (due) WHERE (state = 3);


--
-- Name: klikit_inbox_due_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX klikit_inbox_due_idx ON public.klikit_inbox USING btree (due, id) WHERE ((state < 2) AND (ordering_keys IS NULL));


--
-- Name: klikit_inbox_event_key_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX klikit_inbox_event_key_idx ON public.klikit_inbox USING btree (event_key) WHERE (event_key IS NOT NULL);


--
-- Name: klikit_inbox_key_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX klikit_inbox_key_id_idx ON public.klikit_inbox_key USING btree (id);


--
-- Name: klikit_inbox_ordered_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX klikit_inbox_ordered_idx ON public.klikit_inbox USING btree (due, id) WHERE ((state < 2) AND (ordering_keys IS NOT NULL));


--
-- Name: klikit_ledger_event_key_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX klikit_ledger_event_key_idx ON public.klikit_ledger USING btree (event_key) WHERE (event_key IS NOT NULL);


--
-- Name: klikit_inbox klikit_inbox_deleted; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER klikit_inbox_deleted AFTER DELETE ON public.klikit_inbox FOR EACH ROW WHEN (((old.state < 2) AND (old.ordering_keys IS NOT NULL))) EXECUTE FUNCTION public.klikit_inbox_queue();


--
-- Name: klikit_inbox klikit_inbox_ended; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER klikit_inbox_ended AFTER UPDATE ON public.klikit_inbox FOR EACH ROW WHEN (((old.state < 2) AND (new.state >= 2) AND (old.ordering_keys IS NOT NULL))) EXECUTE FUNCTION public.klikit_inbox_queue();


--
-- Name: klikit_inbox klikit_inbox_relabeled; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER klikit_inbox_relabeled BEFORE UPDATE OF ordering_keys ON public.klikit_inbox FOR EACH ROW WHEN (((old.state < 2) AND (new.state < 2) AND (old.ordering_keys IS DISTINCT FROM new.ordering_keys))) EXECUTE FUNCTION public.klikit_inbox_queue();


--
-- Name: klikit_inbox klikit_inbox_returned; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER klikit_inbox_returned BEFORE UPDATE ON public.klikit_inbox FOR EACH ROW WHEN (((old.state >= 2) AND (new.state < 2))) EXECUTE FUNCTION public.klikit_inbox_queue();


--
-- PostgreSQL database dump complete
--


